# Bad input over MPI: every rank ends, one line says why. Variables: MPIEXEC,
# PROGRAM, CASE, OUT.
function(expect_refusal what)
  execute_process(COMMAND ${MPIEXEC} -n 3 ${PROGRAM} replay ${ARGN} --comm mpi
    --out ${OUT}/out RESULT_VARIABLE code OUTPUT_QUIET ERROR_VARIABLE text
    TIMEOUT 60)
  string(REPLACE ";" "," text "${text}")
  string(REGEX MATCHALL "zeromini replay: [^\n]*" lines "${text}")
  list(LENGTH lines count)
  if(NOT code EQUAL 2 OR NOT count EQUAL 1 OR NOT lines MATCHES "${what}")
    message(FATAL_ERROR "wanted 2 and one line with ${what}, got ${code}:\n${text}")
  endif()
endfunction()

file(REMOVE_RECURSE ${OUT})
file(COPY ${CASE}/ DESTINATION ${OUT}/case)
expect_refusal("--ranks 2, but mpirun started 3" ${OUT}/case --ranks 2)
file(WRITE ${OUT}/case/grads_05.safetensors "short")
expect_refusal("grads_05.safetensors" ${OUT}/case)
file(WRITE ${OUT}/case/meta.json "{}")
expect_refusal("meta.json" ${OUT}/case)
