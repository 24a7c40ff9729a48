// The memory that this process could still take on its machine.

#ifndef ZEROMINI_TOOLS_MACHINE_MEMORY_H_
#define ZEROMINI_TOOLS_MACHINE_MEMORY_H_

#include <cstdint>

namespace zeromini::tools {

// Bytes: what the kernel could give without swapping, or what is left of this
// container's limit if that is less. Other processes may take it, too. 0 where
// nothing tells.
int64_t AvailableMemory();

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_MACHINE_MEMORY_H_
