#include "zeromini/safetensors.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/files/safetensors_header.h"
#include "zeromini/internal/atomic_file.h"
#include "zeromini/internal/input_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// The limit of the format's own library.
constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kLengthBytes = 8;

absl::Status InFile(const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

class FileReader : public SafetensorsReader {
 public:
  FileReader(InputFile file, int64_t data_begin, SafetensorsHeader header)
      : file_(std::move(file)),
        data_begin_(data_begin),
        header_(std::move(header)) {
    for (size_t i = 0; i < header_.tensors.size(); ++i) {
      index_[header_.tensors[i].name] = i;
    }
  }

  const std::string& path() const override { return file_.path(); }
  const std::vector<TensorInfo>& tensors() const override {
    return header_.tensors;
  }
  const std::map<std::string, std::string>& metadata() const override {
    return header_.metadata;
  }
  const TensorInfo* Find(const std::string& name) const override {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &header_.tensors[found->second];
  }
  absl::Status ReadBytes(const TensorInfo& tensor, int64_t first, int64_t bytes,
                         void* out) const override {
    if (first < 0 || bytes < 0 || bytes > tensor.bytes() - first) {
      return absl::OutOfRangeError(absl::StrCat(
          path(), ": tensor \"", tensor.name, "\" has ", tensor.bytes(),
          " bytes; ", bytes, " from byte ", first, " were asked for"));
    }
    absl::Status status =
        file_.ReadAt(data_begin_ + tensor.offset + first, bytes, out);
    if (status.ok()) return status;
    return InFile(path(),
                  BadTensor(tensor.name, std::string(status.message())));
  }

 private:
  const InputFile file_;
  const int64_t data_begin_;
  const SafetensorsHeader header_;
  std::map<std::string, size_t> index_;
};

absl::StatusOr<std::string> ReadHeaderText(const InputFile& file) {
  const int64_t file_bytes = file.size();
  if (file_bytes < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has ", file_bytes, " bytes, too few for a header; is it truncated?"));
  }
  unsigned char raw[kLengthBytes];
  ZEROMINI_RETURN_IF_ERROR(file.ReadAt(0, kLengthBytes, raw));
  uint64_t length = 0;
  for (int i = 0; i < kLengthBytes; ++i) length |= uint64_t{raw[i]} << (8 * i);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "its header claims ", length, " bytes, more than ", kMaxHeaderBytes));
  }
  if (static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("its header claims ", length, " bytes, but the file has ",
                     file_bytes, "; is it truncated?"));
  }
  std::string text(length, '\0');
  ZEROMINI_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, text.size(), text.data()));
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsReader>> SafetensorsReader::Open(
    const std::string& path) {
  ZEROMINI_ASSIGN_OR_RETURN(InputFile file, InputFile::Open(path));
  auto text = ReadHeaderText(file);
  if (!text.ok()) return InFile(path, text.status());
  const int64_t begin = kLengthBytes + static_cast<int64_t>(text->size());
  auto header = ParseSafetensorsHeader(*text, file.size() - begin);
  if (!header.ok()) return InFile(path, header.status());
  return std::make_unique<FileReader>(std::move(file), begin,
                                      *std::move(header));
}

absl::StatusOr<std::vector<float>> SafetensorsReader::ReadF32(
    const std::string& name, absl::Span<const int64_t> shape) const {
  const TensorInfo* tensor = Find(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(path(), ": has no tensor \"", name, "\""));
  }
  if (tensor->format != TensorFormat::kF32 || tensor->shape != shape) {
    return InFile(
        path(),
        BadTensor(name, absl::StrCat("is ", TensorFormatName(tensor->format),
                                     " [", absl::StrJoin(tensor->shape, ", "),
                                     "], not F32 [", absl::StrJoin(shape, ", "),
                                     "]")));
  }
  std::vector<float> values(tensor->elements);
  ZEROMINI_RETURN_IF_ERROR(
      ReadBytes(*tensor, 0, tensor->bytes(), values.data()));
  return values;
}

absl::Status WriteSafetensors(
    const std::string& path, absl::Span<const TensorToWrite> tensors,
    const std::map<std::string, std::string>& metadata) {
  const auto header = SafetensorsHeaderText(tensors, metadata);
  if (!header.ok()) return InFile(path, header.status());
  unsigned char length[kLengthBytes];
  for (int i = 0; i < kLengthBytes; ++i) {
    length[i] = static_cast<unsigned char>(header->size() >> (8 * i));
  }
  ZEROMINI_ASSIGN_OR_RETURN(auto file, AtomicFile::Create(path));
  ZEROMINI_RETURN_IF_ERROR(file->Append(length, kLengthBytes));
  ZEROMINI_RETURN_IF_ERROR(file->Append(header->data(), header->size()));
  for (const TensorToWrite& tensor : tensors) {
    ZEROMINI_RETURN_IF_ERROR(
        file->Append(tensor.data, TensorBytes(tensor.shape, tensor.format)));
  }
  return file->Commit();
}

}  // namespace zeromini
