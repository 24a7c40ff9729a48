#include "tools/report/page.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/line_chart.h"

namespace zeromini::tools {
namespace {

constexpr char kBeforeTitle[] = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>)";

constexpr char kStyle[] = R"(</title>
<style>
:root { color-scheme: light dark; --back: #fcfcfd; --card: #fff;
  --text: #1b1f24; --faint: #667080; --line: #e3e6ea;
  --k0: #2563eb; --k1: #dc6803; --k2: #059669; --k3: #9333ea;
  --k4: #db2777; --k5: #0891b2; --k6: #65a30d; --k7: #64748b; }
@media (prefers-color-scheme: dark) { :root { --back: #101317;
  --card: #171b21; --text: #e6e9ee; --faint: #98a2b3; --line: #2a3038;
  --k0: #6ea8fe; --k1: #f5a25d; --k2: #4fd1a1; --k3: #c492ff;
  --k4: #f38bbd; --k5: #5ccfe6; --k6: #b4dd5c; --k7: #a9b4c4; } }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1rem;
  background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.05rem; margin: 0 0 .8rem; }
p { color: var(--faint); margin: .2rem 0 1rem; }
section { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 1.1rem 1.2rem; margin: 1.1rem 0;
  overflow-x: auto; }
table { border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .7rem;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 500; }
.left { text-align: left; }
tr:last-child td { border-bottom: 0; }
.chart { width: 100%; height: auto; display: block; }
.grid { stroke: var(--line); }
.tick, .label { fill: var(--faint); font-size: 12px; }
polyline { fill: none; stroke: currentColor; stroke-width: 1.8;
  stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; stroke-width: 1.4; }
circle { fill: currentColor; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 3px;
  background: currentColor; margin-right: .45em; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem;
  margin: .5rem 0 0; color: var(--faint); }
.bar { display: flex; height: 1.25rem; border-radius: 5px; overflow: hidden;
  background: var(--line); margin: .25rem 0 .8rem; }
.bar span { background: currentColor; }
.c0 { color: var(--k0); } .c1 { color: var(--k1); }
.c2 { color: var(--k2); } .c3 { color: var(--k3); }
.c4 { color: var(--k4); } .c5 { color: var(--k5); }
.c6 { color: var(--k6); } .c7 { color: var(--k7); }
)";

std::string OpenCell(const char* cell, const Column& column) {
  return absl::StrCat("<", cell,
                      column.align == Align::kLeft ? " class=\"left\">" : ">");
}

}  // namespace

std::string PageHead(const std::string& title, const std::string& style) {
  return absl::StrCat(kBeforeTitle, EscapeHtml(title), kStyle, style,
                      "</style>\n</head>\n<body>\n<h1>", EscapeHtml(title),
                      "</h1>\n");
}

std::string Key(int colour, const std::string& name) {
  return absl::StrFormat("<span><span class=\"key c%d\"></span>%s</span>",
                         colour % kColours, EscapeHtml(name));
}

std::string TableSection(const std::string& title, const Table& table,
                         const std::string& note, bool keys) {
  std::string html = absl::StrCat("<section><h2>", EscapeHtml(title),
                                  "</h2>\n<table><thead><tr>");
  for (const Column& column : table.columns) {
    absl::StrAppend(&html, OpenCell("th", column), EscapeHtml(column.name),
                    "</th>");
  }
  html += "</tr></thead><tbody>\n";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    html += "<tr>";
    for (size_t c = 0; c < table.rows[r].size(); ++c) {
      const std::string& cell = table.rows[r][c];
      absl::StrAppend(
          &html, OpenCell("td", table.columns[c]),
          c == 0 && keys ? Key(static_cast<int>(r), cell) : EscapeHtml(cell),
          "</td>");
    }
    html += "</tr>\n";
  }
  absl::StrAppend(&html, "</tbody></table>");
  if (!note.empty()) absl::StrAppend(&html, "<p>", EscapeHtml(note), "</p>");
  return html + "</section>\n";
}

}  // namespace zeromini::tools
