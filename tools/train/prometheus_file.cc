#include "tools/train/prometheus_file.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {

std::string PrometheusPath(const std::string& pattern, int rank) {
  if (!absl::StrContains(pattern, "{rank}")) return rank == 0 ? pattern : "";
  return absl::StrReplaceAll(pattern, {{"{rank}", absl::StrCat(rank)}});
}

absl::StatusOr<PrometheusFile> PrometheusFile::Create(const std::string& path,
                                                      const std::string& run,
                                                      int rank) {
  PrometheusFile file(path, {{"run", run}, {"rank", absl::StrCat(rank)}});
  ZEROMINI_RETURN_IF_ERROR(file.Update(PrometheusFigures(), false));
  file.written_ = absl::InfinitePast();
  return file;
}

absl::Status PrometheusFile::Update(const PrometheusFigures& figures,
                                    bool last) {
  const absl::Time now = absl::Now();
  if (!wanted() || (!last && now - written_ < absl::Seconds(1))) {
    return absl::OkStatus();
  }
  written_ = now;
  ZEROMINI_ASSIGN_OR_RETURN(const std::string text,
                            PrometheusText(figures, labels_));
  return WritePrometheus(path_, text);
}

}  // namespace zeromini::tools
