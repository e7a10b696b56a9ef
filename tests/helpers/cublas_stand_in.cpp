// As much of cuBLAS as backends/cublas.py calls, on memory of the host: signatures and numbers as in cublas_api.h, so
// that an argument in the wrong place is found. A product is handed to `enqueue`, which decides when it is run.
#include <stdint.h>
#include <string.h>

#include <vector>

enum Status {
    SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15
};
enum Type { R_32F = 0, R_64F = 1 };
enum Compute { F32 = 68, F64 = 70, FAST_16BF = 75, FAST_TF32 = 77 };

struct Handle {
    void* stream;
    void* workspace;
};

struct Product {
    int op_a, op_b, m, n, k, lda, ldb, ldc, type, compute;
    double alpha, beta;
    const void *a, *b;
    void *c, *workspace;
};

static int (*enqueue)(void* stream, const Product* product) = nullptr;
static int status_of_create = SUCCESS;
static int handles = 0;

extern "C" {

void stand_in_enqueue(int (*function)(void*, const Product*)) { enqueue = function; }
void stand_in_fail(int status) { status_of_create = status; }
int stand_in_handles() { return handles; }

const char* cublasGetStatusName(int status)
{
    switch (status) {
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown";
}

int cublasCreate_v2(Handle** handle)
{
    if (status_of_create) return status_of_create;
    *handle = new Handle();
    ++handles;
    return SUCCESS;
}

int cublasDestroy_v2(Handle* handle)
{
    delete handle;
    --handles;
    return SUCCESS;
}

int cublasSetStream_v2(Handle* handle, void* stream)
{
    *handle = {stream, nullptr};  // the workspace is forgotten
    return SUCCESS;
}

int cublasSetWorkspace_v2(Handle* handle, void* workspace, size_t bytes)
{
    if (bytes < (size_t)32 << 20) return INVALID_VALUE;
    handle->workspace = workspace;
    return SUCCESS;
}

int cublasGemmEx(
    Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda,
    const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute, int algorithm)
{
    if (!handle->workspace) return ALLOC_FAILED;
    if ((op_a | op_b) & ~1 || m < 1 || n < 1 || k < 1) return INVALID_VALUE;
    if (lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m) return INVALID_VALUE;
    if (type_a != type_b || type_a != type_c || algorithm != -1) return NOT_SUPPORTED;
    const bool allowed = type_a == R_64F ? compute == F64 : compute == F32 || compute == FAST_16BF || compute == FAST_TF32;
    if (!allowed) return NOT_SUPPORTED;
    auto number = [=](const void* x) { return type_a == R_64F ? *(const double*)x : (double)*(const float*)x; };
    const Product product = {
        op_a, op_b, m, n, k, lda, ldb, ldc, type_a, compute, number(alpha), number(beta), a, b, c, handle->workspace};
    return enqueue(handle->stream, &product);
}

}

// The factors as the tensor cores see them, cut off instead of rounded.
static float seen(float x, int compute)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= compute == FAST_16BF ? 0xFFFF0000u : compute == FAST_TF32 ? 0xFFFFE000u : 0xFFFFFFFFu;
    memcpy(&x, &bits, sizeof bits);
    return x;
}
static double seen(double x, int) { return x; }

template <typename Real>
static void multiply(const Product& p)
{
    const Real *a = (const Real*)p.a, *b = (const Real*)p.b;
    Real* c = (Real*)p.c;
    std::vector<double> column(p.m);
    for (int j = 0; j < p.n; ++j) {
        column.assign(p.m, 0.0);
        for (int l = 0; l < p.k; ++l) {
            const double factor = seen(p.op_b ? b[j + (int64_t)l * p.ldb] : b[l + (int64_t)j * p.ldb], p.compute);
            for (int i = 0; i < p.m; ++i)
                column[i] += factor * seen(p.op_a ? a[l + (int64_t)i * p.lda] : a[i + (int64_t)l * p.lda], p.compute);
        }
        for (int i = 0; i < p.m; ++i) {
            Real& result = c[i + (int64_t)j * p.ldc];
            result = (Real)(p.beta == 0 ? p.alpha * column[i] : p.alpha * column[i] + p.beta * result);
        }
    }
}

extern "C" void stand_in_run(const Product* product)
{
    if (product->type == R_64F)
        multiply<double>(*product);
    else
        multiply<float>(*product);
}
