// Compiles zeromini/torch.h as the C++17 that LibTorch projects use.

#include "zeromini/torch.h"

static_assert(__cplusplus < 202002L, "this file is built as C++17");
