# Pretends to be an Abseil of another release.
set(absl_VERSION 19700101)
set(absl_FOUND TRUE)
