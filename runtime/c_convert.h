// The structs of the C API to those of the C++ API and back.

#ifndef ZEROMINI_RUNTIME_C_CONVERT_H_
#define ZEROMINI_RUNTIME_C_CONVERT_H_

#include <string>

#include "absl/status/status.h"
#include "zeromini/c.h"
#include "zeromini/optimizer.h"

namespace zeromini::c_api {

// Malloc'd, for zeromini_free().
char* CopyString(const std::string& text);

// The code of `status`; a failure puts its message into *error, if not null.
zeromini_code Fail(const absl::Status& status, char** error);

// Of a struct whose struct_size may be smaller or larger than ours.
ParamSpec FromC(const zeromini_param& param);
ParamGroup FromC(const zeromini_hyper& hyper);
OptimizerOptions FromC(const zeromini_options& options);
StepOptions FromC(const zeromini_step_options& options);

zeromini_traffic ToC(const Traffic& traffic);

// Write no more than report->struct_size bytes.
void ToC(const StepReport& from, zeromini_step_report* report);
void ToC(const MemoryReport& from, zeromini_memory_report* report);
void ToC(const Traffic& from, zeromini_level_traffic* traffic);

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_CONVERT_H_
