// C has a twin of each field, enumerator and call of the C++ API, or c.h says
// that it has not.

#include <cctype>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini {
namespace {

using Names = std::set<std::string>;
using Renamed = std::map<std::string, std::string>;

std::string Read(const std::string& header) {
  std::stringstream text;
  text << std::ifstream(std::string(ZEROMINI_SOURCE_DIR "/include/zeromini/") +
                        header)
              .rdbuf();
  return text.str();
}

std::string Replace(const std::string& text, const char* what,
                    const char* with) {
  return std::regex_replace(text, std::regex(what), with);
}

std::string Code(const std::string& header) {
  const std::string text = Replace(Read(header), "//[^\n]*", "");
  return Replace(text, "/\\*([^*]|\\*+[^*/])*\\*+/", "");
}

std::string CCode() { return Code("c_group.h") + Code("c.h"); }

// What stands in the braces after `head`, inner braces left out.
std::string BodyOf(const std::string& code, const std::string& head) {
  const std::regex begin(head + "\\b[^;{]*\\{");
  std::smatch found;
  if (!std::regex_search(code, found, begin)) return "";
  std::string body;
  int depth = 1;
  for (size_t i = found.position() + found.length(); depth > 0; ++i) {
    if (code.at(i) == '}') --depth;
    if (depth == 1 && code[i] != '}') body += code[i];
    if (code[i] == '{' && ++depth == 2) body += ';';
  }
  return body;
}

Names All(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  Names names;
  for (std::sregex_iterator i(text.begin(), text.end(), regex), end; i != end;
       ++i) {
    names.insert((*i)[1]);
  }
  return names;
}

Names FieldsOf(std::string body) {
  for (int depth = 0; depth < 3; ++depth) body = Replace(body, "<[^<>]*>", "");
  body = Replace(body, "\\(\\*(\\w+)\\)\\([^)]*\\)", " $1");  // Of functions.
  body = Replace(body, "[=\\[][^;]*;", ";");
  body = Replace(body, "\\b(static|enum|struct|using|friend)\\b[^;]*;", "");
  return All(body, "[\\w*&>:]\\s+\\*?(\\w+)\\s*;");
}

std::string Lower(const std::string& name) {
  std::string lower;
  for (size_t i = 0; i < name.size(); ++i) {
    if (i > 0 && std::isupper(name[i]) && name[i - 1] != '_') lower += '_';
    lower += static_cast<char>(std::tolower(name[i]));
  }
  return lower;
}

// Without what C and C++ write differently: kAdamMini, ZEROMINI_ADAM_MINI.
std::string Bare(const std::string& name) {
  return Replace(Lower(name), "_", "");
}

struct Twins {
  std::string header;
  std::string cxx;
  std::string c;
  Renamed renamed = {};  // What C calls a field; "": it has none.
  Names only_c = {};
};

const std::vector<Twins> kStructs = {
    {"param_spec.h", "BlockSegment", "zeromini_segment"},
    {"param_spec.h",
     "BlockRule",
     "zeromini_param",
     {{"kind", "rule"}},
     {"name", "shape", "dims", "output_is_last", "slices", "padding_rows",
      "dtype", "num_segments", "layer", "layer_set", "hyper_group", "frozen",
      "tied_to", "data", "expert"}},
    {"param_spec.h",
     "ParamSpec",
     "zeromini_param",
     {},
     {"dims", "rows_per_head", "segments", "num_segments"}},
    {"options.h",
     "HyperGroup",
     "zeromini_hyper_group",
     {{"algorithm", "own_algorithm"}},
     {"num_patterns", "matches_context"}},
    {"options.h",
     "OptimizerOptions",
     "zeromini_options",
     {{"model", "hidden"}},
     {"num_hyper_groups", "log_context", "heads", "kv_heads", "head_dim"}},
    {"plan.h",
     "PlanOptions",
     "zeromini_plan_options",
     {{"model", "hidden"}},
     {"num_group_algorithms", "heads", "kv_heads", "head_dim"}},
    {"plan_map.h", "Move", "zeromini_move", {}, {"momentum", "second_moments"}},
    {"plan_map.h",
     "MoveTotals",
     "zeromini_move",
     {},
     {"from_param", "to_param", "first_row", "rows", "first_block", "blocks",
      "first_matrix", "matrices"}},
    {"group.h",
     "GroupOptions",
     "zeromini_group_options",
     {{"timeout", "timeout_seconds"}, {"make_stream", ""}},
     {"num_hosts", "log_context"}},
    {"group.h",
     "TrafficCount",
     "zeromini_traffic",
     // In zeromini_level_traffic.
     {{"inside_host_bytes", ""}, {"between_hosts_bytes", ""}}},
    {"communicator.h",
     "LevelBytes",
     "zeromini_level_traffic",
     {{"inside_host", "inside_host_bytes"},
      {"between_hosts", "between_hosts_bytes"}}},
    {"optimizer.h", "StepOptions", "zeromini_step_options"},
    {"optimizer.h",
     "StepReport",
     "zeromini_step_report",
     {},
     {"inside_host_bytes", "between_hosts_bytes"}},
    {"memory_report.h", "MemoryReport", "zeromini_memory_report"},
    {"plan_bytes.h",
     "StepBytes",
     "zeromini_step_bytes",
     {{"gradients", "traffic"},
      {"weights", "traffic"},
      {"scalars", "traffic"}}},
};

const std::vector<Twins> kEnums = {
    {"types.h", "DeviceKind", "zeromini_device"},
    {"types.h", "DType", "zeromini_dtype"},
    {"types.h", "MasterFormat", "zeromini_master_format"},
    {"types.h", "StateFormat", "zeromini_state_format"},
    {"types.h", "ReduceOp", "zeromini_reduce_op"},
    {"log.h", "LogLevel", "zeromini_log_level"},
    {"param_spec.h", "BlockKind", "zeromini_block_kind", {}, {"auto"}},
    {"param_spec.h", "MomentForm", "zeromini_moment_form"},
    {"param_spec.h", "Kind", "zeromini_rule_kind"},
    {"plan.h", "Algorithm", "zeromini_algorithm"},
    {"plan.h", "Naming", "zeromini_naming", {{"zeromini", "own"}}},
    {"plan.h", "SecondMoment", "zeromini_second_moment"},
    {"plan.h", "ValueBlocks", "zeromini_value_blocks"},
    {"plan.h", "BlockCuts", "zeromini_block_cuts"},
    {"plan.h", "Bucketing", "zeromini_bucketing"},
    {"options.h", "Reduction", "zeromini_reduction"},
    {"options.h",
     "AbsentGradients",
     "zeromini_on_bad_gradient",
     {{"error", "fail"}},
     {"ignore"}},
    {"options.h",
     "NonFiniteGradients",
     "zeromini_on_bad_gradient",
     {{"error", "fail"}}},
    {"options.h", "KernelChoice", "zeromini_kernels"},
    {"types.h", "MemoryForm", "zeromini_memory_form"},
    {"optimizer.h", "GatherPass", "zeromini_gather_pass"},
};

// Types without a twin, and what c.h has of them or says why not.
const Renamed kNoTwins = {
    {"Purpose", "ZEROMINI_PURPOSES"},
    {"Exchange", "Exchange"},
    {"ModelShape", "ModelShape"},
    {"ParamState", "zeromini_consolidated_state"},
    {"PlanMap", "PlanMap::moves"},
    {"ModelPreset", "FindPreset()"},
    // Of a plan.
    {"Role", "its JSON has"},
    {"UnitSegment", "its JSON has"},
    {"PlannedParam", "its JSON has"},
    {"Run", "its JSON has"},
    {"WireLayout", "its JSON has"},
    {"Part", "its JSON has"},
    {"BucketReason", "its JSON has"},
    {"RegionPlan", "its JSON has"},
    {"BucketPlan", "its JSON has"},
    {"SplitBlock", "its JSON has"},
    {"Plan", "its JSON has"},
    {"BlockSpan", "its JSON has"},
    {"ColumnedMatrix", "MatricesOf()"},
};

struct Calls {
  std::string header;
  std::string cxx;       // Class, or "" for functions of a namespace.
  std::string prefix;    // Of C's, where there is one.
  Renamed renamed = {};  // What C's headers have instead, or say.
};

const std::vector<Calls> kCalls = {
    {"optimizer.h", "Optimizer", "optimizer_"},
    {"communicator.h",
     "Communicator",
     "group_",
     {{"stream", "stream() and"}, {"control", "control() of a group"}}},
    {"group.h", "MpiSession", "mpi_session_"},
    {"stream.h",
     "HostStream",
     "stream_",
     {{"Record", "Record()"},
      {"WaitFor", "WaitFor()"},
      {"Poison", "Poison()"},
      {"From", "zeromini_stream"}}},
    {"group.h", "", ""},
    {"mpi.h", "", "", {{"WrapMpiHandle", "zeromini_wrap_mpi"}}},
    {"plan_map.h", "", "", {{"TotalsOf", "MoveTotals"}}},
    {"plan_bytes.h", "", ""},
    {"plan.h",
     "",
     "",
     {{"AlgorithmName", "AlgorithmName()"},
      {"ParseAlgorithm", "AlgorithmName()"},
      {"RoleName", "AlgorithmName()"},
      {"BlockKindName", "AlgorithmName()"},
      {"BucketReasonName", "AlgorithmName()"},
      {"MomentFormName", "AlgorithmName()"},
      {"SecondMomentName", "AlgorithmName()"},
      {"ColumnGroupRowsOf", "ColumnGroupRowsOf()"},
      {"MatricesOf", "MatricesOf()"},
      {"GatherBytes", "its JSON has"},
      {"WireElements", "its JSON has"},
      {"StateElements", "its JSON has"},
      {"SpansOf", "its JSON has"},
      {"FindPreset", "FindPreset()"},
      {"PresetNames", "PresetNames()"}}},
};

std::string RenamedOr(const Renamed& renamed, const std::string& name) {
  const auto found = renamed.find(name);
  return found == renamed.end() ? name : found->second;
}

TEST(CTwinsTest, EachFieldOfAStructHasOne) {
  const std::string c = CCode();
  for (const Twins& twins : kStructs) {
    Names expected = twins.only_c;
    const Names cxx =
        FieldsOf(BodyOf(Code(twins.header), "struct " + twins.cxx));
    EXPECT_GT(cxx.size(), 1u) << twins.cxx;
    for (const std::string& field : cxx) {
      const std::string name = RenamedOr(twins.renamed, field);
      if (!name.empty()) expected.insert(name);
    }
    Names found = FieldsOf(BodyOf(c, "typedef struct " + twins.c));
    found.erase("struct_size");
    // Part of the struct of BlockRule, which has no own.
    if (twins.cxx == "ParamSpec") found.insert("rule");
    EXPECT_EQ(found, expected) << twins.cxx << " and " << twins.c;
  }
}

TEST(CTwinsTest, EachEnumeratorHasOne) {
  const std::string c = CCode();
  for (const Twins& twins : kEnums) {
    Names expected = twins.only_c;
    const Names cxx = All(BodyOf(Code(twins.header), "enum class " + twins.cxx),
                          "\\bk(\\w+)");
    EXPECT_GT(cxx.size(), 1u) << twins.cxx;
    for (const std::string& name : cxx) {
      expected.insert(RenamedOr(twins.renamed, Bare(name)));
    }
    const Names found =
        All(BodyOf(c, "typedef enum " + twins.c), "\\bZEROMINI_(\\w+)");
    EXPECT_EQ(found.size(), expected.size()) << twins.cxx;
    for (const std::string& name : expected) {
      bool ends = false;
      for (const std::string& other : found) {
        const std::string bare =
            Replace(Bare(Replace(other, "_", "")), "_", "");
        ends = ends || (bare.size() >= name.size() &&
                        bare.substr(bare.size() - name.size()) == name);
      }
      EXPECT_TRUE(ends) << twins.cxx << ": " << name;
    }
  }
}

TEST(CTwinsTest, NoTypeIsForgotten) {
  const std::string c = Read("c_group.h") + Read("c.h");
  Names known;
  for (const Twins& twins : kStructs) known.insert(twins.cxx);
  for (const Twins& twins : kEnums) known.insert(twins.cxx);
  for (const char* header :
       {"types.h", "log.h", "param_spec.h", "plan.h", "plan_map.h",
        "plan_bytes.h", "options.h", "optimizer.h", "memory_report.h",
        "communicator.h", "group.h"}) {
    for (const std::string& type :
         All(Code(header), "\\b(?:struct|enum class) (\\w+) \\{")) {
      if (known.count(type) > 0) continue;
      ASSERT_EQ(kNoTwins.count(type), 1u) << header << ": " << type;
      EXPECT_THAT(c, testing::HasSubstr(kNoTwins.at(type)));
    }
  }
}

Names CallsOf(const Calls& calls) {
  const std::string code = Code(calls.header);
  // A type at the begin of a line, then the name.
  if (calls.cxx.empty()) return All(code, "\n\\w[\\w:<>,*& ]*[ >*&](\\w+)\\(");
  return All(BodyOf(code, "class " + calls.cxx),
             "\\b(?:virtual|static)\\s[^;()~]*\\b(\\w+)\\(");
}

TEST(CTwinsTest, EachCallHasOne) {
  const std::string text = Read("c_group.h") + Read("c.h");
  const Names c = All(CCode(), "\\bzeromini_(\\w+)\\(");
  EXPECT_GT(c.size(), 60u);
  for (const Calls& calls : kCalls) {
    const Names cxx = CallsOf(calls);
    EXPECT_FALSE(cxx.empty()) << calls.header << " " << calls.cxx;
    for (const std::string& name : cxx) {
      const auto instead = calls.renamed.find(name);
      if (instead != calls.renamed.end()) {
        EXPECT_THAT(text, testing::HasSubstr(instead->second)) << name;
        continue;
      }
      EXPECT_EQ(c.count(Lower(name)) + c.count(calls.prefix + Lower(name)) > 0,
                true)
          << calls.cxx << "::" << name << " of " << calls.header;
    }
  }
}

}  // namespace
}  // namespace zeromini
