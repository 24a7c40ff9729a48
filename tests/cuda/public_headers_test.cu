// nvcc reads every public header as C++17, and a program it links can call the
// library. There are no CUDA kernels yet; this keeps the way open for them.

#include <cstdio>

#include "zeromini/c.h"
#include "zeromini/c_group.h"
#include "zeromini/communicator.h"
#include "zeromini/group.h"
#include "zeromini/kernels.h"
#include "zeromini/log.h"
#include "zeromini/loss_scale.h"
#include "zeromini/memory_report.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"
#include "zeromini/plan_map.h"
#include "zeromini/safetensors.h"
#include "zeromini/schedule.h"
#include "zeromini/stream.h"
#include "zeromini/types.h"

int main() {
  const auto group = zeromini::Self();
  std::printf("zeromini %s, %d rank, CUDA headers %d\n", zeromini_version(),
              group->size(), CUDART_VERSION);
  return group->size() == 1 ? 0 : 1;
}
