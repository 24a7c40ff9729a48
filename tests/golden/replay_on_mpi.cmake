# Replays a golden case over MPI and compares what it wrote. Variables: MPIEXEC,
# RANKS, PROGRAM, COMPARE, CASE, OUT, STAGE, MEMORY.
function(run_or_fail)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE text
    ERROR_VARIABLE text)
  if(NOT code EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\nended with ${code}:\n${text}")
  endif()
endfunction()

file(REMOVE_RECURSE ${OUT})
run_or_fail(${MPIEXEC} -n ${RANKS} ${PROGRAM} replay ${CASE} --comm mpi
  --stage ${STAGE} --memory ${MEMORY} --out ${OUT}/mean)
foreach(step 01 02 03 04 05 06 07 08 09 10)
  run_or_fail(${COMPARE} ${OUT}/mean/params_${step}.safetensors
    ${CASE}/params_${step}.safetensors --absolute 6e-7)
endforeach()
run_or_fail(${COMPARE} ${OUT}/mean/state_10.safetensors
  ${CASE}/state_10.safetensors --relative 1e-5)

# Dealt gradients: the bits of one rank, clipping on.
run_or_fail(${PROGRAM} replay ${CASE} --ranks 1 --stage ${STAGE} --clip 1
  --grad-split sum --out ${OUT}/one)
run_or_fail(${MPIEXEC} -n ${RANKS} ${PROGRAM} replay ${CASE} --comm mpi
  --stage ${STAGE} --memory ${MEMORY} --clip 1 --grad-split sum
  --out ${OUT}/many)
foreach(file params_01 params_05 params_10 state_10)
  run_or_fail(${CMAKE_COMMAND} -E compare_files
    ${OUT}/one/${file}.safetensors ${OUT}/many/${file}.safetensors)
endforeach()
