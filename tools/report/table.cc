#include "tools/report/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/files/terminal.h"

namespace zeromini::tools {
namespace {

using Cells = std::vector<std::string>;

// Columns a terminal shows, not bytes: continuation bytes of UTF-8 are none.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

Cells NamesOf(const std::vector<Column>& columns) {
  Cells names;
  for (const Column& column : columns) names.push_back(column.name);
  return names;
}

// Names come out of files.
Cells ForTerminal(Cells cells) {
  for (std::string& cell : cells) cell = tools::ForTerminal(cell);
  return cells;
}

std::vector<size_t> LeastWidths(const std::vector<Column>& columns) {
  std::vector<size_t> widths;
  for (const Column& column : columns) {
    widths.push_back(std::max(Width(tools::ForTerminal(column.name)),
                              static_cast<size_t>(column.width)));
  }
  return widths;
}

// `cells` are fit for a terminal. No line ends in spaces.
std::string Aligned(const std::vector<Column>& columns,
                    const std::vector<size_t>& widths, const Cells& cells) {
  std::string line;
  const size_t count = std::min(cells.size(), columns.size());
  for (size_t c = 0; c < count; ++c) {
    const size_t width = Width(cells[c]);
    const std::string space(width < widths[c] ? widths[c] - width : 0, ' ');
    const bool left = columns[c].align == Align::kLeft;
    absl::StrAppend(&line, c == 0 ? "" : "  ", left ? cells[c] : space,
                    left ? space : cells[c]);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string Table::ToText() const {
  std::vector<size_t> widths = LeastWidths(columns);
  std::vector<Cells> shown = {ForTerminal(NamesOf(columns))};
  for (const Cells& row : rows) shown.push_back(ForTerminal(row));
  for (const Cells& row : shown) {
    for (size_t c = 0; c < std::min(row.size(), widths.size()); ++c) {
      widths[c] = std::max(widths[c], Width(row[c]));
    }
  }
  std::string text;
  for (const Cells& row : shown) text += Aligned(columns, widths, row);
  return text;
}

std::string Table::ToMarkdown() const {
  std::string text;
  const auto add = [&](const Cells& row) {
    for (const std::string& cell : ForTerminal(row)) {
      absl::StrAppend(&text, "| ", cell, " ");
    }
    text += "|\n";
  };
  add(NamesOf(columns));
  for (const Column& column : columns) {
    text += column.align == Align::kLeft ? "|---" : "|---:";
  }
  text += "|\n";
  for (const Cells& row : rows) add(row);
  return text;
}

std::string Table::Header() const { return Line(NamesOf(columns)); }

std::string Table::Line(const std::vector<std::string>& cells) const {
  return Aligned(columns, LeastWidths(columns), ForTerminal(cells));
}

}  // namespace zeromini::tools
