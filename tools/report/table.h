// Table: named columns and rows of texts, for a terminal, for Markdown and for
// a page.

#ifndef ZEROMINI_TOOLS_REPORT_TABLE_H_
#define ZEROMINI_TOOLS_REPORT_TABLE_H_

#include <string>
#include <vector>

namespace zeromini::tools {

enum class Align { kLeft, kRight };

struct Column {
  std::string name;
  Align align = Align::kRight;
  // On a terminal, in characters, at the least. Only Header() and Line() need
  // it, which do not know the rows to come.
  int width = 0;
};

// On a terminal two spaces part the columns, and what names and cells hold
// moves no cursor. A row may have fewer cells than there are columns.
struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;

  // Header and rows; columns are as wide as their widest cell.
  std::string ToText() const;
  std::string ToMarkdown() const;

  // A line each, for rows that are printed as they are measured: columns are as
  // wide as their name or `width`, and a wider cell moves the rest of its line.
  std::string Header() const;
  std::string Line(const std::vector<std::string>& cells) const;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_TABLE_H_
