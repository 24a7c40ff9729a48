// A plan's numbers, for machines and for people.

#ifndef ZEROMINI_TOOLS_PLAN_PLAN_REPORT_H_
#define ZEROMINI_TOOLS_PLAN_PLAN_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/report/table.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

struct PlannedModel {
  const std::string& name;
  const OptimizerOptions& options;
  const Plan& plan;
  double seconds;  // That planning took.
};

// One object of the JSON list; scripts read its keys.
nlohmann::ordered_json DescribePlan(const PlannedModel& planned);

// A table with a line for each of those.
Table EmptyPlanTable();
std::vector<std::string> PlanCells(const nlohmann::ordered_json& json);

// Of one such object, if some second moments are of columns: how many are of
// what, and the scalars that a step sends. With the end of its line; else
// empty.
std::string ColumnsLine(const nlohmann::ordered_json& json);

// What the keys mean.
extern const char kPlanKeys[];

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_PLAN_PLAN_REPORT_H_
