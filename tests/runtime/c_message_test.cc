// Messages for C programs name what c.h has.

#include "runtime/c_message.h"

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini::c_api {
namespace {

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

// Every string literal of the layers whose messages reach a C program.
std::vector<std::string> Literals() {
  // \x22 is a quotation mark, without those of #include.
  const std::regex literal("\x22((?:[^\x22\\\\\n]|\\\\.)*)\x22");
  std::vector<std::string> found;
  for (const char* layer : {"shard", "comm", "kernels", "runtime"}) {
    const std::filesystem::path root(ZEROMINI_SOURCE_DIR);
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(root / layer)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() != ".cc" || name == "c_message.cc") continue;
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      const std::string source = text.str();
      for (std::sregex_iterator at(source.begin(), source.end(), literal), end;
           at != end; ++at) {
        found.push_back((*at)[1].str());
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
    EXPECT_FALSE(std::regex_search(
        InC(literal), std::regex("(^|[^A-Za-z_])(k[A-Z][a-z]+|[A-Z][A-Za-z]+"
                                 "\\(\\))")))
        << literal;
  }
}

}  // namespace
}  // namespace zeromini::c_api
