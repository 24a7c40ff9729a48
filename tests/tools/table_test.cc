#include "tools/report/table.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

Table SomeTable() {
  return {{{"name", Align::kLeft, 6}, {"bytes", Align::kRight, 3}},
          {{"a", "12"}, {"long name", "1234567"}}};
}

TEST(TableTest, ColumnsAreAsWideAsTheirWidestCell) {
  EXPECT_EQ(SomeTable().ToText(),
            "name         bytes\n"
            "a               12\n"
            "long name  1234567\n");
}

TEST(TableTest, ALineHasTheWidthsOfTheHeaderWhateverTheRows) {
  const Table table = SomeTable();
  EXPECT_EQ(table.Header(), "name    bytes\n");
  EXPECT_EQ(table.Line({"a", "12"}), "a          12\n");
  EXPECT_EQ(table.Line({"long name", "1"}), "long name      1\n");
}

TEST(TableTest, WidthsCountCharactersAndNotBytes) {
  EXPECT_EQ(SomeTable().Line({"\xC3\xA9\xC3\xA9", "1"}),
            "\xC3\xA9\xC3\xA9          1\n");
}

TEST(TableTest, NoLineEndsInSpaces) {
  const Table table = {{{"a", Align::kLeft, 5}, {"b", Align::kLeft, 5}}, {}};
  EXPECT_EQ(table.Line({"x", "y"}), "x      y\n");
  EXPECT_EQ(table.Line({"x"}), "x\n");
}

TEST(TableTest, MarkdownKeepsTheAlignment) {
  EXPECT_EQ(SomeTable().ToMarkdown(),
            "| name | bytes |\n"
            "|---|---:|\n"
            "| a | 12 |\n"
            "| long name | 1234567 |\n");
}

TEST(TableTest, ACellMovesNoCursor) {
  Table table = SomeTable();
  table.rows = {{"a\x1b[31mb\n", "1"}};
  for (const std::string& text :
       {table.ToText(), table.ToMarkdown(), table.Line(table.rows[0])}) {
    EXPECT_THAT(text, HasSubstr("a\\x1b[31mb "));
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  }
}

}  // namespace
}  // namespace zeromini::tools
