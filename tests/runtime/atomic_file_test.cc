#include "zeromini/internal/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"
#include "support/status_matchers.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// As over NFS, where a file that was opened for reading only takes no
// exclusive lock. Overrides libc's.
bool over_nfs = false;
extern "C" int flock(int fd, int operation) noexcept {
  const bool exclusive = (operation & LOCK_EX) != 0;
  if (over_nfs && exclusive && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
    errno = EBADF;
    return -1;
  }
  return static_cast<int>(syscall(SYS_flock, fd, operation));
}

class AtomicFileTest : public testing::Test {
 protected:
  AtomicFileTest() {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~AtomicFileTest() override { fs::remove_all(dir_); }

  absl::Status Write(const std::string& path, const std::string& text) {
    auto file = AtomicFile::Create(path);
    if (!file.ok()) return file.status();
    const absl::Status put = (*file)->Append(text.data(), text.size());
    return put.ok() ? (*file)->Commit() : put;
  }
  // As a writer that was killed.
  static void LeaveHalf(const std::string& path) {
    const pid_t child = fork();
    if (child == 0) {
      auto file = AtomicFile::Create(path);
      if (file.ok()) (*file)->Append("half", 4).IgnoreError();
      kill(getpid(), SIGKILL);
    }
    waitpid(child, nullptr, 0);
  }
  static std::string Contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  int Files() const {
    const fs::directory_iterator files(dir_);
    return static_cast<int>(std::distance(begin(files), end(files)));
  }

  const std::string dir_ =
      testing::TempDir() + "atomic_file_test." + std::to_string(getpid());
  const std::string path_ = dir_ + "/file";
};

TEST_F(AtomicFileTest, TheOldFileIsThereUntilTheNewOneIsCommitted) {
  ASSERT_OK(Write(path_, "old"));
  {
    ASSERT_OK_AND_ASSIGN(const auto file, AtomicFile::Create(path_));
    ASSERT_OK(file->Append("ne", 2));
    EXPECT_EQ(Contents(path_), "old");
  }
  EXPECT_EQ(Contents(path_), "old");
  EXPECT_EQ(Files(), 1);
  ASSERT_OK(Write(path_, "new"));
  EXPECT_EQ(Contents(path_), "new");
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, AFullDiskLeavesTheOldFileAndNothingElse) {
  ASSERT_OK(Write(path_, "old"));
  // The limit of a file's size stands for the disk's.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small = {100, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = Write(path_, std::string(1000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(path_ + ": cannot be written"));
  EXPECT_EQ(Contents(path_), "old");
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, AKilledWritersFileIsRemovedByTheNextWriter) {
  for (bool nfs : {false, true}) {
    const std::string path = path_ + (nfs ? "_on_nfs" : "");
    const int before = Files();
    over_nfs = nfs;
    LeaveHalf(path);
    ASSERT_EQ(Files(), before + 1) << "the killed writer left no file";
    ASSERT_OK(Write(path, "whole"));
    over_nfs = false;
    EXPECT_EQ(Contents(path), "whole");
    EXPECT_EQ(Files(), before + 1) << (nfs ? "over NFS" : "");
  }
}

// Killed between being given its permissions and its name.
TEST_F(AtomicFileTest, AKilledWritersFileIsRemovedThoughItMayNotBeWritten) {
  LeaveHalf(path_);
  ASSERT_EQ(chmod((path_ + ".partial-0").c_str(), 0444), 0);
  ASSERT_OK(Write(path_, "whole"));
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, TwoWritersShareNothing) {
  ASSERT_OK_AND_ASSIGN(const auto first, AtomicFile::Create(path_));
  ASSERT_OK_AND_ASSIGN(const auto second, AtomicFile::Create(path_));
  ASSERT_OK(first->Append("1", 1));
  ASSERT_OK(second->Append("2", 1));
  ASSERT_OK(first->Commit());
  EXPECT_EQ(Contents(path_), "1");
  ASSERT_OK(second->Commit());
  EXPECT_EQ(Contents(path_), "2");
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, ALinkStaysAndLeadsToTheNewFile) {
  fs::create_directories(dir_ + "/other");
  ASSERT_OK(Write(dir_ + "/other/real", "old"));
  fs::create_symlink("other/real", path_);
  ASSERT_OK(Write(path_, "new"));
  EXPECT_TRUE(fs::is_symlink(path_));
  EXPECT_EQ(Contents(dir_ + "/other/real"), "new");
}

TEST_F(AtomicFileTest, ReplacesNoFolderPipeOrDevice) {
  ASSERT_EQ(mkfifo((dir_ + "/pipe").c_str(), 0600), 0);
  for (const std::string& path :
       {dir_, dir_ + "/pipe", std::string("/dev/null")}) {
    EXPECT_THAT(Write(path, "x"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(path + ": cannot be created: a ")));
  }
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(AtomicFileTest, KeepsThePermissionsOfTheOldFile) {
  ASSERT_OK(Write(path_, "old"));
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  ASSERT_OK(Write(path_, "new"));
  struct stat facts;
  ASSERT_EQ(stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0640u);
}

TEST_F(AtomicFileTest, KnowsItsOwnFilesByName) {
  EXPECT_EQ(PathOfPartial("a.json.partial-12"), "a.json");
  for (const char* name :
       {"a", "a.partial", "a.partial-", "a.partial-x", "a.partial-1x"}) {
    EXPECT_EQ(PathOfPartial(name), "") << name;
  }
}

}  // namespace
}  // namespace zeromini
