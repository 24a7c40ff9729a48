#include "runtime/files/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "zeromini/internal/json_text.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

using nlohmann::json;

constexpr char kMetadataKey[] = "__metadata__";

struct FormatFacts {
  TensorFormat format;
  const char* name;
  int64_t bits;
};
constexpr FormatFacts kFormats[] = {{TensorFormat::kF32, "F32", 32},
                                    {TensorFormat::kF64, "F64", 64},
                                    {TensorFormat::kBF16, "BF16", 16},
                                    {TensorFormat::kF16, "F16", 16},
                                    {TensorFormat::kI64, "I64", 64},
                                    {TensorFormat::kI32, "I32", 32},
                                    {TensorFormat::kI16, "I16", 16},
                                    {TensorFormat::kI8, "I8", 8},
                                    {TensorFormat::kU64, "U64", 64},
                                    {TensorFormat::kU32, "U32", 32},
                                    {TensorFormat::kU16, "U16", 16},
                                    {TensorFormat::kU8, "U8", 8},
                                    {TensorFormat::kBool, "BOOL", 8},
                                    {TensorFormat::kC64, "C64", 64},
                                    {TensorFormat::kF8E4M3, "F8_E4M3", 8},
                                    {TensorFormat::kF8E5M2, "F8_E5M2", 8},
                                    {TensorFormat::kF8E8M0, "F8_E8M0", 8},
                                    {TensorFormat::kF6E2M3, "F6_E2M3", 6},
                                    {TensorFormat::kF6E3M2, "F6_E3M2", 6},
                                    {TensorFormat::kF4, "F4", 4}};

std::string FormatNames() {
  return absl::StrJoin(
      kFormats, ", ",
      [](std::string* out, const FormatFacts& facts) { *out += facts.name; });
}

bool IsCount(const json& value) {
  return value.is_number_unsigned() &&
         value.get<uint64_t>() <=
             static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

bool IsCountList(const json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), IsCount);
}

absl::Status ParseFormat(const json& entry, TensorInfo* tensor) {
  const auto found = entry.find("dtype");
  if (found == entry.end() || !found->is_string()) {
    return BadTensor(tensor->name, "has no dtype");
  }
  const std::string name = found->get<std::string>();
  for (const FormatFacts& facts : kFormats) {
    if (name != facts.name) continue;
    tensor->format = facts.format;
    return absl::OkStatus();
  }
  return BadTensor(tensor->name, absl::StrCat("dtype \"", name,
                                              "\" is none of ", FormatNames()));
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name,
                                       const json& entry) {
  TensorInfo tensor;
  tensor.name = name;
  if (!entry.is_object()) return BadTensor(name, "its entry is no JSON object");
  ZEROMINI_RETURN_IF_ERROR(ParseFormat(entry, &tensor));
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !IsCountList(*shape)) {
    return BadTensor(name, "its shape is no list of sizes");
  }
  tensor.shape = shape->get<std::vector<int64_t>>();
  tensor.elements = ElementCount(tensor.shape, tensor.format);
  if (tensor.elements < 0) {
    return BadTensor(
        name, absl::StrCat("its shape [", absl::StrJoin(tensor.shape, ", "),
                           "] overflows, or makes no whole bytes"));
  }
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !IsCountList(*offsets) ||
      offsets->size() != 2) {
    return BadTensor(name, "its data_offsets are no pair of offsets");
  }
  tensor.offset = (*offsets)[0].get<int64_t>();
  const int64_t end = (*offsets)[1].get<int64_t>();
  if (end < tensor.offset || end - tensor.offset != tensor.bytes()) {
    return BadTensor(
        name, absl::StrCat("data_offsets [", tensor.offset, ", ", end,
                           "] do not hold the ", tensor.bytes(), " bytes of ",
                           TensorFormatName(tensor.format), " [",
                           absl::StrJoin(tensor.shape, ", "), "]"));
  }
  return tensor;
}

absl::Status ParseMetadata(const json& entry, SafetensorsHeader* header) {
  if (!entry.is_object()) {
    return absl::InvalidArgumentError("its __metadata__ is no JSON object");
  }
  for (const auto& item : entry.items()) {
    if (!item.value().is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "its __metadata__ key \"", item.key(), "\" is no string"));
    }
    header->metadata[item.key()] = item.value().get<std::string>();
  }
  return absl::OkStatus();
}

// The tensors must cover the rest of the file, each byte once.
absl::Status CheckCover(int64_t data_bytes, std::vector<TensorInfo>* tensors) {
  std::sort(tensors->begin(), tensors->end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              return std::make_pair(a.offset, a.bytes()) <
                     std::make_pair(b.offset, b.bytes());
            });
  int64_t end = 0;
  for (const TensorInfo& tensor : *tensors) {
    if (tensor.offset < end) {
      return BadTensor(tensor.name,
                       absl::StrCat("begins at byte ", tensor.offset,
                                    ", inside the tensor before it"));
    }
    if (tensor.offset > end) {
      return BadTensor(
          tensor.name,
          absl::StrCat("begins at byte ", tensor.offset, ", after a gap of ",
                       tensor.offset - end, " bytes"));
    }
    if (tensor.bytes() > data_bytes - tensor.offset) {
      return BadTensor(
          tensor.name,
          absl::StrCat("ends at byte ", tensor.offset + tensor.bytes(),
                       " of the data, but the file has only ", data_bytes,
                       "; is it truncated?"));
    }
    end += tensor.bytes();
  }
  if (end != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it has ", data_bytes - end, " bytes after its last tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

const char* TensorFormatName(TensorFormat format) {
  for (const FormatFacts& facts : kFormats) {
    if (facts.format == format) return facts.name;
  }
  return "unknown";
}

int64_t TensorFormatBits(TensorFormat format) {
  for (const FormatFacts& facts : kFormats) {
    if (facts.format == format) return facts.bits;
  }
  return 0;
}

int64_t TensorFormatSize(TensorFormat format) {
  return TensorFormatBits(format) / 8;
}

absl::Status BadTensor(const std::string& tensor, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor \"", tensor, "\": ", what));
}

int64_t ElementCount(absl::Span<const int64_t> shape, TensorFormat format) {
  int64_t elements = 1;
  int64_t bits = TensorFormatBits(format);
  for (const int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(elements, dim, &elements) ||
        __builtin_mul_overflow(bits, dim, &bits)) {
      return -1;
    }
  }
  return bits % 8 == 0 ? elements : -1;
}

int64_t TensorBytes(absl::Span<const int64_t> shape, TensorFormat format) {
  return ElementCount(shape, format) * TensorFormatBits(format) / 8;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    const std::string& text, int64_t data_bytes) {
  const absl::Status good = CheckJson(text);
  if (!good.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("its header is no JSON object: ", good.message()));
  }
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError("its header is no JSON object");
  }
  SafetensorsHeader header;
  for (const auto& item : parsed.items()) {
    if (item.key() == kMetadataKey) {
      ZEROMINI_RETURN_IF_ERROR(ParseMetadata(item.value(), &header));
      continue;
    }
    ZEROMINI_ASSIGN_OR_RETURN(TensorInfo tensor,
                              ParseTensor(item.key(), item.value()));
    header.tensors.push_back(std::move(tensor));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckCover(data_bytes, &header.tensors));
  return header;
}

absl::StatusOr<std::string> SafetensorsHeaderText(
    absl::Span<const TensorToWrite> tensors,
    const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (ElementCount(tensor.shape, tensor.format) < 0) {
      return BadTensor(tensor.name, "its shape is no shape");
    }
    if (tensor.name == kMetadataKey || header.contains(tensor.name)) {
      return BadTensor(tensor.name, "is given twice, or is a reserved name");
    }
    const int64_t bytes = TensorBytes(tensor.shape, tensor.format);
    header[tensor.name] = {{"dtype", TensorFormatName(tensor.format)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  // replace: a name that is not UTF-8 must not throw.
  std::string text =
      header.dump(-1, ' ', false, json::error_handler_t::replace);
  // Readers map the file: the data begins at a multiple of eight.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace zeromini
