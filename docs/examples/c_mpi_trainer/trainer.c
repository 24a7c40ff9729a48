/* A small data-parallel trainer in C99 that uses MPI itself: a two-layer
 * network learns a random teacher. zeromini is plugged in where PLUG stands;
 * the rest is what such a trainer has anyway.
 *
 *   mpirun -n 2 c_mpi_trainer            prints the loss every 20 steps
 */

#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "zeromini/c.h" /* PLUG 1 */

enum { kInputs = 16, kHidden = 32, kOutputs = 8, kBatch = 64, kSteps = 200 };
enum { kWeights1, kBias1, kWeights2, kBias2, kParams };

typedef struct Network {
  float* value[kParams];
  float* grad[kParams];
  float hidden[kHidden];
} Network;

static const int64_t kShape[kParams][2] = {
    {kHidden, kInputs}, {kHidden, 0}, {kOutputs, kHidden}, {kOutputs, 0}};
static const int kDims[kParams] = {2, 1, 2, 1};
static const char* const kNames[kParams] = {"layers.0.weight", "layers.0.bias",
                                            "layers.1.weight", "layers.1.bias"};

static int SizeOf(int param) {
  return (int)(kShape[param][0] * (kDims[param] == 2 ? kShape[param][1] : 1));
}

static void Check(zeromini_code code, char* error) { /* PLUG 2 */
  if (code == ZEROMINI_OK) return;
  fprintf(stderr, "%s\n", error);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

/* In [-1, 1), the same for the same counter on every machine. */
static float Uniform(uint64_t counter) {
  uint64_t x = counter * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (float)((double)((x ^ (x >> 31)) >> 11) / 4503599627370496.0 - 1.0);
}

static void Create(Network* network) {
  int param, i;
  for (param = 0; param < kParams; ++param) {
    const float scale = kDims[param] == 2 ? 0.3f : 0.0f;
    network->value[param] = malloc(sizeof(float) * (size_t)SizeOf(param));
    network->grad[param] = malloc(sizeof(float) * (size_t)SizeOf(param));
    for (i = 0; i < SizeOf(param); ++i) {
      network->value[param][i] =
          scale * Uniform((uint64_t)(1000003 * param + i));
    }
  }
}

static void ClearGradients(Network* network) {
  int param, i;
  for (param = 0; param < kParams; ++param) {
    for (i = 0; i < SizeOf(param); ++i) network->grad[param][i] = 0;
  }
}

/* The function to learn. */
static float Teacher(const float* x, int output) {
  return 0.5f * x[output] * x[output + 8] + 0.5f * x[(output + 3) % kInputs];
}

static void Forward(Network* n, const float* x, float* y) {
  int i, j;
  for (i = 0; i < kHidden; ++i) {
    float sum = n->value[kBias1][i];
    for (j = 0; j < kInputs; ++j) {
      sum += n->value[kWeights1][i * kInputs + j] * x[j];
    }
    n->hidden[i] = tanhf(sum);
  }
  for (i = 0; i < kOutputs; ++i) {
    float sum = n->value[kBias2][i];
    for (j = 0; j < kHidden; ++j) {
      sum += n->value[kWeights2][i * kHidden + j] * n->hidden[j];
    }
    y[i] = sum;
  }
}

/* Adds the gradient of 1/2 |error|^2 / samples. */
static void Backward(Network* n, const float* x, const float* error,
                     int samples) {
  int i, j;
  for (j = 0; j < kHidden; ++j) {
    float back = 0;
    for (i = 0; i < kOutputs; ++i) {
      const float e = error[i] / (float)samples;
      n->grad[kWeights2][i * kHidden + j] += e * n->hidden[j];
      back += e * n->value[kWeights2][i * kHidden + j];
    }
    back *= 1 - n->hidden[j] * n->hidden[j];
    n->grad[kBias1][j] += back;
    for (i = 0; i < kInputs; ++i) {
      n->grad[kWeights1][j * kInputs + i] += back * x[i];
    }
  }
  for (i = 0; i < kOutputs; ++i) {
    n->grad[kBias2][i] += error[i] / (float)samples;
  }
}

/* This rank's share of the step's batch; returns its summed loss. */
static double LossAndGradients(Network* n, int step, int rank, int ranks) {
  const int samples = kBatch / ranks;
  double loss = 0;
  int s, i;
  ClearGradients(n);
  for (s = rank * samples; s < (rank + 1) * samples; ++s) {
    float x[kInputs], y[kOutputs], error[kOutputs];
    for (i = 0; i < kInputs; ++i) {
      x[i] = Uniform(((uint64_t)step * kBatch + (uint64_t)s) * kInputs +
                     (uint64_t)i + 1000000007u);
    }
    Forward(n, x, y);
    for (i = 0; i < kOutputs; ++i) {
      error[i] = y[i] - Teacher(x, i);
      loss += 0.5 * error[i] * error[i];
    }
    Backward(n, x, error, samples);
  }
  return loss;
}

/* PLUG 3: the group is the trainer's own communicator, the tensors stay where
 * they are. */
static zeromini_optimizer* Attach(Network* network, zeromini_group* group) {
  zeromini_param params[kParams];
  zeromini_options options;
  zeromini_optimizer* optimizer;
  char* error = NULL;
  int i;
  for (i = 0; i < kParams; ++i) {
    zeromini_param_init(&params[i], sizeof params[i]);
    params[i].name = kNames[i];
    params[i].shape = kShape[i];
    params[i].dims = kDims[i];
    params[i].rule = kDims[i] == 2 ? ZEROMINI_RULE_ROWS : ZEROMINI_RULE_ELEMENT;
    params[i].data = network->value[i];
  }
  zeromini_options_init(&options, sizeof options);
  options.stage = 2;
  options.max_grad_norm = 1.0;
  optimizer =
      zeromini_optimizer_create(&options, params, kParams, group, &error);
  if (optimizer == NULL) Check(ZEROMINI_UNKNOWN, error);
  return optimizer;
}

static void Train(Network* network, zeromini_optimizer* optimizer, int rank,
                  int ranks) {
  zeromini_step_options step_options;
  char* error = NULL;
  int step, i;
  zeromini_step_options_init(&step_options, sizeof step_options);
  for (step = 0; step < kSteps; ++step) {
    double loss = LossAndGradients(network, step, rank, ranks);
    for (i = kParams - 1; i >= 0; --i) { /* PLUG 4: instead of an all-reduce */
      Check(zeromini_grad_ready(optimizer, i, network->grad[i], NULL, &error),
            error);
    }
    step_options.learning_rate = 0.01; /* and instead of an AdamW loop */
    Check(zeromini_step(optimizer, &step_options, NULL, &error), error);

    MPI_Allreduce(MPI_IN_PLACE, &loss, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0 && (step % 20 == 0 || step == kSteps - 1)) {
      printf("step %3d loss %.6f\n", step, loss / kBatch);
    }
  }
}

int main(int argc, char** argv) {
  Network network;
  zeromini_group* group;
  zeromini_optimizer* optimizer;
  char* error = NULL;
  MPI_Comm comm = MPI_COMM_WORLD;
  int rank, ranks, provided, i;

  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  if (kBatch % ranks != 0) {
    if (rank == 0) fprintf(stderr, "%d ranks do not divide the batch\n", ranks);
    MPI_Abort(comm, 2);
  }
  Create(&network);

  group = zeromini_wrap_mpi(&comm, sizeof comm, NULL, &error); /* PLUG 5 */
  if (group == NULL) Check(ZEROMINI_UNKNOWN, error);
  optimizer = Attach(&network, group);

  Train(&network, optimizer, rank, ranks);

  Check(zeromini_optimizer_close(optimizer, &error), error); /* PLUG 6 */
  Check(zeromini_group_close(group, &error), error);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
  for (i = 0; i < kParams; ++i) {
    free(network.value[i]);
    free(network.grad[i]);
  }
  MPI_Finalize();
  return 0;
}
