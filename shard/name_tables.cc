#include "shard/name_tables.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace zeromini {
namespace {

struct Entry {
  const char* table;
  const char* suffix;  // Whole components at the end of the name.
  Role role;
  RowOrder order = RowOrder::kPlain;
};

constexpr RowOrder kPlain = RowOrder::kPlain;
constexpr RowOrder kThirds = RowOrder::kThirds;
constexpr RowOrder kKvGroups = RowOrder::kKvGroups;
constexpr RowOrder kConv1d = RowOrder::kConv1dOutput;

// The first match wins, so longer suffixes stand before shorter ones.
constexpr Entry kEntries[] = {
    // Llama, Mistral, Mixtral, Qwen2, Qwen3, Gemma, Phi, OPT.
    {"hf", "embed_tokens", Role::kEmbedding},
    {"hf", "embed_positions", Role::kEmbedding},
    {"hf", "lm_head", Role::kOutput},
    {"hf", "q_proj", Role::kQuery},
    {"hf", "k_proj", Role::kKey},
    {"hf", "v_proj", Role::kValue},
    {"hf", "qkv_proj", Role::kFusedQkv, kThirds},
    {"hf", "o_proj", Role::kAttentionOutput},
    {"hf", "self_attn.out_proj", Role::kAttentionOutput},
    {"hf", "self_attn.dense", Role::kAttentionOutput},
    {"hf", "gate_proj", Role::kMlp},
    {"hf", "up_proj", Role::kMlp},
    {"hf", "down_proj", Role::kMlp},
    {"hf", "gate_up_proj", Role::kMlp},
    {"hf", "mlp.gate", Role::kMlp},
    {"hf", "mlp.shared_expert_gate", Role::kMlp},
    {"hf", "block_sparse_moe.gate", Role::kMlp},
    {"hf", "fc1", Role::kMlp},
    {"hf", "fc2", Role::kMlp},
    // GPT-NeoX and Pythia.
    {"gpt-neox", "embed_in", Role::kEmbedding},
    {"gpt-neox", "embed_out", Role::kOutput},
    {"gpt-neox", "query_key_value", Role::kFusedQkv, kKvGroups},
    {"gpt-neox", "attention.dense", Role::kAttentionOutput},
    {"gpt-neox", "self_attention.dense", Role::kAttentionOutput},
    {"gpt-neox", "dense_h_to_4h", Role::kMlp},
    {"gpt-neox", "dense_4h_to_h", Role::kMlp},
    // GPT-2.
    {"gpt2", "wte", Role::kEmbedding},
    {"gpt2", "wpe", Role::kEmbedding},
    {"gpt2", "c_attn", Role::kFusedQkv, kThirds},
    {"gpt2", "attn.c_proj", Role::kAttentionOutput, kConv1d},
    {"gpt2", "mlp.c_fc", Role::kMlp, kConv1d},
    {"gpt2", "mlp.c_proj", Role::kMlp, kConv1d},
    // Meta's Llama and torchtitan.
    {"meta", "tok_embeddings", Role::kEmbedding},
    {"meta", "output", Role::kOutput},
    {"meta", "wq", Role::kQuery},
    {"meta", "wk", Role::kKey},
    {"meta", "wv", Role::kValue},
    {"meta", "attention.wo", Role::kAttentionOutput},
    {"meta", "attn.wo", Role::kAttentionOutput},
    {"meta", "w1", Role::kMlp},
    {"meta", "w2", Role::kMlp},
    {"meta", "w3", Role::kMlp},
    {"meta", "router.gate", Role::kMlp},
    // Megatron.
    {"megatron", "word_embeddings", Role::kEmbedding},
    {"megatron", "position_embeddings", Role::kEmbedding},
    {"megatron", "output_layer", Role::kOutput},
    {"megatron", "linear_qkv", Role::kFusedQkv, kKvGroups},
    {"megatron", "linear_proj", Role::kAttentionOutput},
    {"megatron", "linear_fc1", Role::kMlp},
    {"megatron", "linear_fc2", Role::kMlp},
    {"megatron", "mlp.router", Role::kMlp},
};

struct StackedEntry {
  const char* name;
  Role role;
  RowOrder order;
  int natural_dims;
};

constexpr StackedEntry kLlmC[] = {
    {"ln1w", Role::kNorm, kPlain, 1},
    {"ln1b", Role::kBias, kPlain, 1},
    {"qkvw", Role::kFusedQkv, kThirds, 2},
    {"qkvb", Role::kBias, kPlain, 1},
    {"attprojw", Role::kAttentionOutput, kPlain, 2},
    {"attprojb", Role::kBias, kPlain, 1},
    {"ln2w", Role::kNorm, kPlain, 1},
    {"ln2b", Role::kBias, kPlain, 1},
    {"fcw", Role::kMlp, kPlain, 2},
    {"fcb", Role::kBias, kPlain, 1},
    {"fcprojw", Role::kMlp, kPlain, 2},
    {"fcprojb", Role::kBias, kPlain, 1},
    {"lnfw", Role::kNorm, kPlain, 1},
    {"lnfb", Role::kBias, kPlain, 1},
};

bool IsInteger(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

bool IsNormWord(absl::string_view word) {
  while (!word.empty() && absl::ascii_isdigit(word.back())) {
    word.remove_suffix(1);
  }
  return word == "ln" || word == "lnf" || word == "bn" ||
         absl::EndsWith(word, "norm");
}

// `component` is the last one that is not merely "weight" or "scale".
bool IsNorm(absl::string_view component, int dims) {
  std::vector<absl::string_view> words = absl::StrSplit(component, '_');
  if (words.size() > 1 && (words.back() == "weight" || words.back() == "f")) {
    words.pop_back();
  }
  // "norm_proj" is a matrix beside a norm; "ln_1" and "ln_mlp" are norms.
  if (dims >= 2) return IsNormWord(words.back());
  return std::any_of(words.begin(), words.end(), IsNormWord);
}

bool IsBias(absl::string_view last) {
  return last == "bias" || absl::EndsWith(last, "_bias");
}

bool EndsWithComponents(absl::string_view name, absl::string_view suffix) {
  if (!absl::EndsWith(name, suffix)) return false;
  return name.size() == suffix.size() ||
         name[name.size() - suffix.size() - 1] == '.';
}

}  // namespace

std::vector<std::string> NameComponents(absl::string_view name) {
  std::string lower = absl::AsciiStrToLower(name);
  std::replace(lower.begin(), lower.end(), '/', '.');
  std::vector<std::string> parts =
      absl::StrSplit(lower, '.', absl::SkipEmpty());
  const auto is_plain = [](absl::string_view part) {
    if (IsInteger(part)) return true;
    // Transformer Engine's grouped experts: weight0, weight1, ...
    return absl::ConsumePrefix(&part, "weight") &&
           (part.empty() || IsInteger(part));
  };
  while (parts.size() > 1 && is_plain(parts.back())) parts.pop_back();
  return parts;
}

NameClass ClassifyName(absl::string_view name, int dims) {
  const std::vector<std::string> parts = NameComponents(name);
  if (parts.empty()) return {};
  const std::string& last = parts.back();
  for (const StackedEntry& entry : kLlmC) {
    if (last == entry.name) {
      return {"llm.c", entry.role, entry.order, true, entry.natural_dims};
    }
  }
  if (IsBias(last)) return {"bias", Role::kBias};
  const bool scale = last == "scale" || last == "gamma";
  if (IsNorm(scale && parts.size() > 1 ? parts[parts.size() - 2] : last,
             dims)) {
    return {"norm", Role::kNorm};
  }
  const std::string path = absl::StrJoin(parts, ".");
  for (const Entry& entry : kEntries) {
    if (EndsWithComponents(path, entry.suffix)) {
      return {entry.table, entry.role, entry.order};
    }
  }
  return {};
}

NumberedName FindLayerNumber(absl::string_view name) {
  std::vector<std::string> parts = absl::StrSplit(name, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    int number = -1;
    if (!IsInteger(parts[i]) || !absl::SimpleAtoi(parts[i], &number)) continue;
    if (i + 1 == parts.size()) return {"", number};
    return {absl::StrJoin(parts.begin(), parts.begin() + i, "."), number};
  }
  return {};
}

}  // namespace zeromini
