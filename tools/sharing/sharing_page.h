// SharingPage: what can be shared, on one page that needs nothing else.

#ifndef ZEROMINI_TOOLS_SHARING_SHARING_PAGE_H_
#define ZEROMINI_TOOLS_SHARING_SHARING_PAGE_H_

#include <string>

#include "tools/sharing/form_choice.h"
#include "tools/sharing/sharing_record.h"

namespace zeromini::tools {

// A heat map of tensors and forms at the last measured step, the curves of each
// kind, and the suggestion. `about`: a line below the title, as text.
std::string SharingPage(const SharingRecord& record,
                        const Suggestion& suggestion, const std::string& about);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_SHARING_SHARING_PAGE_H_
