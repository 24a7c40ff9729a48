// The frame of the pages that the programs write: one file each, which fetches
// and runs nothing.

#ifndef ZEROMINI_TOOLS_REPORT_PAGE_H_
#define ZEROMINI_TOOLS_REPORT_PAGE_H_

#include <string>

#include "tools/report/table.h"

namespace zeromini::tools {

// Classes "c0" to "c7" are its colours; see LineChart.
inline constexpr int kColours = 8;

// All up to the first section; the page ends with "</body>\n</html>\n".
// `style`: rules of this page alone.
std::string PageHead(const std::string& title, const std::string& style = "");

// `name` behind a dot of its colour.
std::string Key(int colour, const std::string& name);

// `keys`: the first cell of each row has the row's colour.
std::string TableSection(const std::string& title, const Table& table,
                         const std::string& note, bool keys = true);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_PAGE_H_
