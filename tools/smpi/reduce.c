/* Sums one gradient per rank in several ways and prints how long each took, one JSON object per line.

     reduce ADD_BYTES_PER_SECOND METHOD[,METHOD...] ELEMENTS...

   Methods: send_receive and add (what a cost model is fitted to), segments, segments_doubling, recursive_segments, ring,
   recursive_doubling, tree, allreduce.

   Made for SimGrid: `smpicc -O2 reduce.c -o reduce`, then `smpirun -platform FILE ./reduce ...`. There the wire is simulated, large
   buffers are folded onto one another (their contents mean nothing), and additions are injected, not measured: so many bytes of
   addends per second, on hosts of 1 Gflop/s. Under an ordinary `mpicc` and `mpirun` everything is real and that number is unused.
   In both, every method first sums true numbers in small buffers, and a wrong sum ends the program. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ARITY = 12, CHECKED_ELEMENTS = 5003, TAG = 7 };

static int rank, size;

#ifdef SMPI_SHARED_MALLOC
static double add_bytes_per_second;
static int folded; /* Whether buffers share their memory. */
static float *buffer(size_t elements) {
  size_t bytes = (elements + 1) * sizeof(float);
  return folded ? SMPI_SHARED_MALLOC(bytes) : malloc(bytes);
}
static void release(float *values) {
  if (folded) SMPI_SHARED_FREE(values);
  else free(values);
}
static void spend_addition(size_t elements) { smpi_execute_flops(1e9 * elements * sizeof(float) / add_bytes_per_second); }
#else
static double add_bytes_per_second;
static int folded;
static float *buffer(size_t elements) { return malloc((elements + 1) * sizeof(float)); }
static void release(float *values) { free(values); }
static void spend_addition(size_t elements) { (void)elements; }
#endif

static void fail(const char *what, const char *which) {
  if (rank == 0) fprintf(stderr, "reduce: %s %s\n", what, which);
  MPI_Abort(MPI_COMM_WORLD, 2);
}

static void add(float *restrict sum, const float *restrict addend, size_t elements) {
  if (!folded)
    for (size_t i = 0; i < elements; i++) sum[i] += addend[i];
  spend_addition(elements);
}

/* The first element of segment `segment` of `of`. */
static int bound(int elements, int segment, int of) { return (int)((long long)elements * segment / of); }

/* The ranks that sum with this one at this level, asked for once: the first, checked sum is not timed. */
static MPI_Comm siblings(int group, int stride) {
  static MPI_Comm known[32];
  static int made[32];
  if (group == size) return MPI_COMM_WORLD;
  int level = 0;
  for (int s = stride; s > 1; s /= group) level++;
  if (!made[level]) MPI_Comm_split(MPI_COMM_WORLD, rank / stride / group * stride + rank % stride, rank, &known[level]);
  made[level] = 1;
  return known[level];
}

static void swap(int to, const float *send, int sent, int from, float *receive, int received) {
  MPI_Sendrecv(send, sent, MPI_FLOAT, to, TAG, receive, received, MPI_FLOAT, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

enum Gather { BY_LIBRARY, BY_DOUBLING };

/* All-gather of everyone's segment: each rank passes all it has to ranks 1, 2, 4 and so on before it. */
static void gather_by_doubling(const float *mine, float *values, int elements) {
  /* Segments from this rank's on, going round; so that any of them fit, each has the room of the longest. */
  int room = elements / size + 1;
  float *held = buffer((size_t)room * size);
  if (!folded) memcpy(held, mine, room * sizeof(float));
  for (int distance = 1; distance < size; distance *= 2) {
    int segments = distance < size - distance ? distance : size - distance;
    swap((rank + size - distance) % size, held, segments * room, (rank + distance) % size, held + distance * room, segments * room);
  }
  for (int r = 0; r < size && !folded; r++) {
    int segment = (rank + r) % size, start = bound(elements, segment, size);
    memcpy(values + start, held + r * room, (bound(elements, segment + 1, size) - start) * sizeof(float));
  }
  release(held);
}

/* Exclusive segments: in groups of `group` ranks every rank gets its segment of every gradient and adds them in order of rank;
   the owners of the same segment in other groups go on in the same way; then the sums are gathered. */
static void by_segments(int group, int stride, enum Gather gather, float *values, int elements) {
  if (stride >= size) return;
  if (size % (stride * group)) fail("groups must be complete for", "recursive_segments");
  MPI_Comm comm = siblings(group, stride);
  int place, members;
  MPI_Comm_rank(comm, &place);
  MPI_Comm_size(comm, &members);
  int *counts = malloc(4 * members * sizeof(int)), *starts = counts + members;
  int *part_counts = starts + members, *part_starts = part_counts + members;
  int mine = bound(elements, place + 1, members) - bound(elements, place, members);
  for (int r = 0; r < members; r++) {
    starts[r] = bound(elements, r, members);
    counts[r] = bound(elements, r + 1, members) - starts[r];
    part_counts[r] = mine;
    part_starts[r] = r * mine;
  }
  float *parts = buffer((size_t)mine * members);
  MPI_Alltoallv(values, counts, starts, MPI_FLOAT, parts, part_counts, part_starts, MPI_FLOAT, comm);
  for (int r = 1; r < members; r++) add(parts, parts + part_starts[r], mine);
  by_segments(group, stride * group, gather, parts, mine);
  if (gather == BY_DOUBLING) gather_by_doubling(parts, values, elements);
  else MPI_Allgatherv(parts, mine, MPI_FLOAT, values, counts, starts, MPI_FLOAT, comm);
  release(parts);
  free(counts);
}

static void segments(float *values, int elements) { by_segments(size, 1, BY_LIBRARY, values, elements); }

static void segments_doubling(float *values, int elements) { by_segments(size, 1, BY_DOUBLING, values, elements); }

static void recursive_segments(float *values, int elements) { by_segments(ARITY, 1, BY_LIBRARY, values, elements); }

/* Segments travel around the ring once to be summed and once more to be known. */
static void ring(float *values, int elements) {
  int next = (rank + 1) % size, previous = (rank + size - 1) % size;
  float *scratch = buffer(elements / size + 1);
  for (int step = 0; step < 2 * (size - 1); step++) {
    int sent = (rank + 2 * size - step) % size, received = (previous + 2 * size - step) % size;
    int from = bound(elements, sent, size), to = bound(elements, received, size);
    int count = bound(elements, received + 1, size) - to;
    int summing = step < size - 1;
    swap(next, values + from, bound(elements, sent + 1, size) - from, previous, summing ? scratch : values + to, count);
    if (summing) add(values + to, scratch, count);
  }
  release(scratch);
}

/* Whole gradients between partners at twice the distance every time; ranks beyond a power of two hand in and are told. */
static void recursive_doubling(float *values, int elements) {
  int power = 1;
  while (2 * power <= size) power *= 2;
  float *scratch = buffer(elements);
  if (rank >= power) {
    MPI_Send(values, elements, MPI_FLOAT, rank - power, TAG, MPI_COMM_WORLD);
    MPI_Recv(values, elements, MPI_FLOAT, rank - power, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  } else {
    int guest = rank + power < size ? rank + power : MPI_PROC_NULL;
    MPI_Recv(scratch, elements, MPI_FLOAT, guest, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (guest != MPI_PROC_NULL) add(values, scratch, elements);
    for (int distance = 1; distance < power; distance *= 2) {
      swap(rank ^ distance, values, elements, rank ^ distance, scratch, elements);
      add(values, scratch, elements);
    }
    MPI_Send(values, elements, MPI_FLOAT, guest, TAG, MPI_COMM_WORLD);
  }
  release(scratch);
}

/* Whole gradients to the first of twelve, whole sums back: a parent takes its children one after another. */
static void tree(float *values, int elements) {
  float *scratch = buffer(elements);
  int top = 1;
  for (; top < size && rank % top == 0; top *= ARITY) {
    int parent = rank / (top * ARITY) * (top * ARITY);
    if (rank != parent) {
      MPI_Send(values, elements, MPI_FLOAT, parent, TAG, MPI_COMM_WORLD);
      MPI_Recv(values, elements, MPI_FLOAT, parent, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      break;
    }
    for (int child = rank + top; child < size && child < rank + top * ARITY; child += top) {
      MPI_Recv(scratch, elements, MPI_FLOAT, child, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      add(values, scratch, elements);
    }
  }
  for (int stride = top / ARITY; stride >= 1; stride /= ARITY)
    for (int child = rank + stride; child < size && child < rank + stride * ARITY; child += stride)
      MPI_Send(values, elements, MPI_FLOAT, child, TAG, MPI_COMM_WORLD);
  release(scratch);
}

/* For comparison: the library's own, whatever its algorithm and its order of additions. */
static void allreduce(float *values, int elements) {
  float *sum = buffer(elements);
  MPI_Allreduce(values, sum, elements, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  if (!folded) memcpy(values, sum, elements * sizeof(float));
  release(sum);
}

/* One exchange between the first two ranks, both ways at once. */
static void send_receive(float *values, int elements) {
  if (rank > 1) return;
  float *scratch = buffer(elements);
  swap(1 - rank, values, elements, 1 - rank, scratch, elements);
  release(scratch);
}

static void add_once(float *values, int elements) {
  float *addend = buffer(elements);
  if (!folded) memset(addend, 0, elements * sizeof(float));
  add(values, addend, elements);
  release(addend);
}

static const struct Method {
  const char *name;
  void (*run)(float *, int);
  int sums;
} methods[] = {{"send_receive", send_receive, 0}, {"add", add_once, 0}, {"segments", segments, 1},
               {"segments_doubling", segments_doubling, 1}, {"recursive_segments", recursive_segments, 1}, {"ring", ring, 1},
               {"recursive_doubling", recursive_doubling, 1}, {"tree", tree, 1}, {"allreduce", allreduce, 1}};

static void check(const struct Method *method) {
  float *values = buffer(CHECKED_ELEMENTS);
  /* Small integers, so that sums are exact in any order. */
  for (int i = 0; i < CHECKED_ELEMENTS; i++) values[i] = (float)((rank + 1) * (i % 5));
  method->run(values, CHECKED_ELEMENTS);
  double ranks = size * (size + 1.0) / 2;
  for (int i = 0; i < CHECKED_ELEMENTS; i++)
    if (values[i] != (float)(ranks * (i % 5))) fail("wrong sum by", method->name);
  release(values);
}

/* A moment at which all ranks go on: they leave a barrier one after another. */
static double start_together(void) {
  double now = MPI_Wtime(), start;
  MPI_Allreduce(&now, &start, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  start += 0.01;
  long wait_ns = (long)((start - MPI_Wtime()) * 1e9);
  if (wait_ns > 0) nanosleep(&(struct timespec){.tv_nsec = wait_ns}, NULL);
  return start;
}

static void measure(const struct Method *method, int elements) {
  float *values = buffer(elements);
  double start = start_together();
  method->run(values, elements);
  double seconds = MPI_Wtime() - start, slowest;
  MPI_Reduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  if (rank == 0)
    printf("{\"kind\": \"%s\", \"machines\": %d, \"bytes\": %zu, \"seconds\": %.9g}\n", method->name, size,
           elements * sizeof(float), slowest);
  release(values);
}

int main(int count, char **arguments) {
  MPI_Init(&count, &arguments);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (count < 4 || size < 2) fail("usage:", "reduce ADD_BYTES_PER_SECOND METHOD[,METHOD...] ELEMENTS... (two ranks or more)");
  add_bytes_per_second = atof(arguments[1]);
  char *rest = arguments[2]; /* Not strtok, whose state simulated ranks would share. */
  for (char *name; (name = strtok_r(rest, ",", &rest));) {
    const struct Method *method = NULL;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
      if (!strcmp(methods[i].name, name)) method = methods + i;
    if (!method) fail("unknown method", name);
    folded = 0;
    if (method->sums) check(method);
#ifdef SMPI_SHARED_MALLOC
    folded = 1;
#endif
    for (int i = 3; i < count; i++) measure(method, atoi(arguments[i]));
  }
  MPI_Finalize();
  return 0;
}
