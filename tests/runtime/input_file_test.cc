#include "zeromini/internal/input_file.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "support/status_matchers.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class InputFileTest : public testing::Test {
 protected:
  InputFileTest() {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    std::ofstream(path_, std::ios::binary) << "0123456789";
  }
  ~InputFileTest() override { fs::remove_all(dir_); }

  void ExpectKind(const std::string& path, const std::string& kind) {
    EXPECT_THAT(InputFile::Open(path).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(path), HasSubstr("is a " + kind),
                               HasSubstr("not a regular file"))));
  }

  const std::string dir_ =
      testing::TempDir() + "input_file_test." + std::to_string(getpid());
  const std::string path_ = dir_ + "/file";
};

TEST_F(InputFileTest, ReadsWholeFilesAndParts) {
  ASSERT_OK_AND_ASSIGN(const InputFile file, InputFile::Open(path_));
  EXPECT_EQ(file.size(), 10);
  ASSERT_OK_AND_ASSIGN(const std::string text, file.ReadAll(10));
  EXPECT_EQ(text, "0123456789");
  char part[3] = {};
  EXPECT_OK(file.ReadAt(7, 3, part));
  EXPECT_EQ(std::string(part, 3), "789");
  EXPECT_THAT(file.ReadAt(8, 3, part),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ends 1 bytes too early")));
}

TEST_F(InputFileTest, FollowsLinksAndReadsFilesThatSayTheyAreEmpty) {
  fs::create_symlink(path_, dir_ + "/link");
  ASSERT_OK_AND_ASSIGN(const InputFile link, InputFile::Open(dir_ + "/link"));
  ASSERT_OK_AND_ASSIGN(const std::string text, link.ReadAll(100));
  EXPECT_EQ(text.size(), 10u);
  ASSERT_OK_AND_ASSIGN(const InputFile proc,
                       InputFile::Open("/proc/self/status"));
  ASSERT_OK_AND_ASSIGN(const std::string status, proc.ReadAll(1 << 20));
  EXPECT_THAT(status, HasSubstr("VmRSS"));
}

TEST_F(InputFileTest, RefusesMoreThanTheLimitWithBothNumbers) {
  ASSERT_OK_AND_ASSIGN(const InputFile file, InputFile::Open(path_));
  EXPECT_THAT(file.ReadAll(9).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(path_ + ": has 10 bytes, more than the limit "
                                         "of 9")));
  ASSERT_OK_AND_ASSIGN(const InputFile proc,
                       InputFile::Open("/proc/self/status"));
  EXPECT_THAT(
      proc.ReadAll(9).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("limit of 9")));
}

TEST_F(InputFileTest, NamesTheKindOfWhatIsNoRegularFile) {
  ExpectKind(dir_, "folder");
  ExpectKind("/dev/zero", "device");
  ASSERT_EQ(mkfifo((dir_ + "/pipe").c_str(), 0600), 0);
  ExpectKind(dir_ + "/pipe", "pipe");
  fs::create_symlink(dir_ + "/pipe", dir_ + "/link");
  ExpectKind(dir_ + "/link", "pipe");
  // Names of sockets are short: relative to the folder.
  const fs::path before = fs::current_path();
  fs::current_path(dir_);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, "socket");
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  fs::current_path(before);
  ExpectKind(dir_ + "/socket", "socket");
  close(fd);
}

TEST_F(InputFileTest, NamesWhatIsNotThere) {
  for (const std::string& path :
       {dir_ + "/none", path_ + "/below", dir_ + "/dangling", std::string()}) {
    fs::remove(dir_ + "/dangling");
    fs::create_symlink(dir_ + "/none", dir_ + "/dangling");
    EXPECT_THAT(InputFile::Open(path).status(),
                StatusIs(absl::StatusCode::kNotFound,
                         HasSubstr(path + ": cannot be opened: ")));
  }
}

}  // namespace
}  // namespace zeromini
