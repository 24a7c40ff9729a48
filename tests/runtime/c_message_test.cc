// Messages for C programs name what c.h has.

#include "runtime/c/c_message.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini::c_api {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

TEST(CMessageTest, NamesOfTheCxxApiBecomeThoseOfC) {
  EXPECT_EQ(InC("set ParamSpec::output_is_last if it is stored so"),
            "set zeromini_param.output_is_last if it is stored so");
  EXPECT_EQ(InC("set ModelShape::head_dim"), "set zeromini_options.head_dim");
  EXPECT_EQ(InC("OptimizerOptions::model.heads is 0"),
            "zeromini_options.heads is 0");
  EXPECT_EQ(InC("give a BlockRule::Heads(n)"), "give a ZEROMINI_RULE_HEADS(n)");
  EXPECT_EQ(InC("a rule such as Rows()"), "a rule such as ZEROMINI_RULE_ROWS");
  EXPECT_EQ(InC("(absent_gradients is kError)"),
            "(absent_gradients is ZEROMINI_FAIL)");
  EXPECT_EQ(InC("Optimizer::Step() released it"),
            "zeromini_step() released it");
}

TEST(CMessageTest, WordsThatOnlyContainSuchANameStay) {
  for (const char* text : {"'kFlatten'", "'my_kFlat'", "BackStep() is no name",
                           "", "a rate of 0.1"}) {
    EXPECT_EQ(InC(text), text);
  }
}

// The string literals of a source, escapes left as they are.
std::vector<std::string> LiteralsOf(const std::string& source) {
  std::vector<std::string> found;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '"') continue;
    std::string literal;
    for (++i; i < source.size() && source[i] != '"' && source[i] != '\n'; ++i) {
      if (source[i] == '\\') literal += source[i++];
      literal += source[i];
    }
    found.push_back(literal);
  }
  return found;
}

// Those of the layers whose messages reach a C program.
std::vector<std::string> Literals() {
  std::vector<std::string> found;
  for (const char* layer : {"shard", "comm", "kernels", "runtime"}) {
    const std::filesystem::path root(ZEROMINI_SOURCE_DIR);
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(root / layer)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() != ".cc" || name == "c_message.cc") continue;
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      for (std::string& literal : LiteralsOf(text.str())) {
        found.push_back(std::move(literal));
      }
    }
  }
  return found;
}

TEST(CMessageTest, NoMessageOfTheLibraryKeepsACxxNameInC) {
  const std::vector<std::string> literals = Literals();
  EXPECT_GT(literals.size(), 500u);
  for (const std::string& literal : literals) {
    EXPECT_THAT(InC(literal), Not(HasSubstr("::")));
    EXPECT_THAT(
        InC(literal),
        Not(ContainsRegex("(^|[^A-Za-z_])(k[A-Z][a-z]+|[A-Z][A-Za-z]+[(][)])")))
        << literal;
  }
}

}  // namespace
}  // namespace zeromini::c_api
