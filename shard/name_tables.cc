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
  const char* suffix;  // Whole components at the end; "#" is an integer.
  Role role;
  HiddenSide hidden = HiddenSide::kUnknown;
  RowOrder order = RowOrder::kPlain;
};

constexpr RowOrder kThirds = RowOrder::kThirds;
constexpr RowOrder kKvGroups = RowOrder::kKvGroups;
constexpr RowOrder kLikely = RowOrder::kKvGroupsLikely;
constexpr HiddenSide kNeither = HiddenSide::kUnknown;
constexpr HiddenSide kIn = HiddenSide::kInput;
constexpr HiddenSide kOut = HiddenSide::kOutput;

// The first match wins, so longer suffixes stand before shorter ones. A side of
// the hidden size is given where no model has another there.
constexpr Entry kEntries[] = {
    // Llama, Mistral, Mixtral, Qwen2, Qwen3, Gemma, Phi, OPT.
    {"hf", "embed_tokens", Role::kEmbedding, kIn},
    {"hf", "embed_positions", Role::kEmbedding, kIn},
    {"hf", "lm_head", Role::kOutput, kIn},
    {"hf", "q_proj", Role::kQuery, kIn},
    {"hf", "k_proj", Role::kKey, kIn},
    {"hf", "v_proj", Role::kValue, kIn},
    {"hf", "qkv_proj", Role::kFusedQkv, kIn, kThirds},
    {"hf", "o_proj", Role::kAttentionOutput, kOut},
    {"hf", "self_attn.out_proj", Role::kAttentionOutput, kOut},
    {"hf", "self_attn.dense", Role::kAttentionOutput, kOut},
    {"hf", "gate_proj", Role::kMlp, kIn},
    {"hf", "up_proj", Role::kMlp, kIn},
    {"hf", "down_proj", Role::kMlp, kOut},
    {"hf", "gate_up_proj", Role::kMlp, kIn},
    {"hf", "mlp.gate", Role::kMlp, kIn},
    {"hf", "mlp.shared_expert_gate", Role::kMlp, kIn},
    {"hf", "block_sparse_moe.gate", Role::kMlp, kIn},
    {"hf", "fc1", Role::kMlp, kIn},
    {"hf", "fc2", Role::kMlp, kOut},
    // DeepSeek's multi-head latent attention. The key rows beside the latent
    // ones of kv_a are no head of their own here, but rows.
    {"mla", "q_a_proj", Role::kOther, kIn},
    {"mla", "kv_a_proj_with_mqa", Role::kOther, kIn},
    {"mla", "q_b_proj", Role::kQuery},
    {"mla", "kv_b_proj", Role::kFusedQkv, kNeither, RowOrder::kMlaKeyValue},
    // ChatGLM and Falcon, then GPT-NeoX, Pythia and BLOOM.
    {"chatglm", "transformer.encoder.layers.#.self_attention.query_key_value",
     Role::kFusedQkv, kIn, kThirds},
    {"falcon", "h.#.self_attention.query_key_value", Role::kFusedQkv, kIn,
     kKvGroups},
    {"gpt-neox", "embed_in", Role::kEmbedding, kIn},
    {"gpt-neox", "embed_out", Role::kOutput, kIn},
    {"gpt-neox", "self_attention.query_key_value", Role::kFusedQkv, kIn,
     kLikely},
    {"gpt-neox", "query_key_value", Role::kFusedQkv, kIn, kKvGroups},
    {"gpt-neox", "attention.dense", Role::kAttentionOutput, kOut},
    {"gpt-neox", "self_attention.dense", Role::kAttentionOutput, kOut},
    {"gpt-neox", "dense_h_to_4h", Role::kMlp, kIn},
    {"gpt-neox", "dense_4h_to_h", Role::kMlp, kOut},
    // GPT-2, whose Conv1D is [in, out].
    {"gpt2", "wte", Role::kEmbedding, kIn},
    {"gpt2", "wpe", Role::kEmbedding, kIn},
    {"gpt2", "c_attn", Role::kFusedQkv, kIn, kThirds},
    {"gpt2", "attn.c_proj", Role::kAttentionOutput, kOut},
    {"gpt2", "mlp.c_fc", Role::kMlp, kIn},
    {"gpt2", "mlp.c_proj", Role::kMlp, kOut},
    // Meta's Llama and torchtitan.
    {"meta", "tok_embeddings", Role::kEmbedding, kIn},
    {"meta", "output", Role::kOutput, kIn},
    {"meta", "wq", Role::kQuery, kIn},
    {"meta", "wk", Role::kKey, kIn},
    {"meta", "wv", Role::kValue, kIn},
    {"meta", "attention.wo", Role::kAttentionOutput, kOut},
    {"meta", "attn.wo", Role::kAttentionOutput, kOut},
    {"meta", "w1", Role::kMlp, kIn},
    {"meta", "w2", Role::kMlp, kOut},
    {"meta", "w3", Role::kMlp, kIn},
    {"meta", "router.gate", Role::kMlp, kIn},
    // Megatron.
    {"megatron", "word_embeddings", Role::kEmbedding, kIn},
    {"megatron", "position_embeddings", Role::kEmbedding, kIn},
    {"megatron", "output_layer", Role::kOutput, kIn},
    {"megatron", "linear_qkv", Role::kFusedQkv, kIn, kKvGroups},
    {"megatron", "linear_proj", Role::kAttentionOutput, kOut},
    {"megatron", "linear_fc1", Role::kMlp, kIn},
    {"megatron", "linear_fc2", Role::kMlp, kOut},
    {"megatron", "mlp.router", Role::kMlp, kIn},
    // torch::nn::MultiheadAttention and the Transformer layers around it.
    {"torch", "in_proj_weight", Role::kFusedQkv, kIn, kThirds},
    {"torch", "q_proj_weight", Role::kQuery, kIn},
    {"torch", "k_proj_weight", Role::kKey},
    {"torch", "v_proj_weight", Role::kValue},
    {"torch", "bias_k", Role::kBias},
    {"torch", "bias_v", Role::kBias},
    {"torch", "out_proj", Role::kAttentionOutput},
    {"torch", "linear1", Role::kMlp},
    {"torch", "linear2", Role::kMlp},
};

struct StackedEntry {
  const char* name;
  Role role;
  int natural_dims;
  HiddenSide hidden = HiddenSide::kUnknown;
  RowOrder order = RowOrder::kPlain;
};

constexpr StackedEntry kLlmC[] = {
    {"ln1w", Role::kNorm, 1},
    {"ln1b", Role::kBias, 1},
    {"qkvw", Role::kFusedQkv, 2, kIn, kThirds},
    {"qkvb", Role::kBias, 1},
    {"attprojw", Role::kAttentionOutput, 2, kOut},
    {"attprojb", Role::kBias, 1},
    {"ln2w", Role::kNorm, 1},
    {"ln2b", Role::kBias, 1},
    {"fcw", Role::kMlp, 2, kIn},
    {"fcb", Role::kBias, 1},
    {"fcprojw", Role::kMlp, 2, kOut},
    {"fcprojb", Role::kBias, 1},
    {"lnfw", Role::kNorm, 1},
    {"lnfb", Role::kBias, 1},
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

// "conv1", "conv1d", "conv_in", and the patches of vision transformers.
bool IsConvolution(const std::vector<std::string>& parts) {
  const std::string& last = parts.back();
  return absl::StartsWith(last, "conv") || last == "patch_embedding" ||
         (last == "proj" && parts.size() > 1 &&
          parts[parts.size() - 2] == "patch_embed");
}

std::string PathOf(std::vector<std::string> parts) {
  for (std::string& part : parts) {
    if (IsInteger(part)) part.assign(1, '#');
  }
  return absl::StrJoin(parts, ".");
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
      return {"llm.c",      entry.role, entry.order,
              entry.hidden, true,       entry.natural_dims};
    }
  }
  if (IsBias(last)) return {"bias", Role::kBias};
  const bool scale = last == "scale" || last == "gamma";
  if (IsNorm(scale && parts.size() > 1 ? parts[parts.size() - 2] : last,
             dims)) {
    return {"norm", Role::kNorm};
  }
  if (dims >= 3 && IsConvolution(parts)) return {kConvolution};
  const std::string path = PathOf(parts);
  for (const Entry& entry : kEntries) {
    if (EndsWithComponents(path, entry.suffix)) {
      return {entry.table, entry.role, entry.order, entry.hidden};
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
