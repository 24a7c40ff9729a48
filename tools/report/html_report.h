// HtmlReport: runs side by side on one page that needs nothing else.

#ifndef ZEROMINI_TOOLS_REPORT_HTML_REPORT_H_
#define ZEROMINI_TOOLS_REPORT_HTML_REPORT_H_

#include <string>
#include <vector>

#include "tools/report/run_record.h"

namespace zeromini::tools {

std::string HtmlReport(const std::vector<RunRecord>& runs);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_HTML_REPORT_H_
