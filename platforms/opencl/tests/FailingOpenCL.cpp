// Functions of OpenCL's names in the program itself, which the dynamic linker finds before those of libOpenCL.
#define CL_TARGET_OPENCL_VERSION 120
#include "FailingDevice.h"
#include <CL/cl.h>
#include <atomic>
#include <dlfcn.h>

using namespace KStepTests;

static std::atomic<long long> numCalls(0), firstFailure(0), numFailures(0), numReferences(0);
static std::atomic<int> counted(FailingDevice::All);

void FailingDevice::fail(Calls calls, long long first, long long count) {
    counted = calls;
    firstFailure = first;
    numFailures = count;
    numCalls = 0;
}

long long FailingDevice::getNumCalls() {
    return numCalls;
}

long long FailingDevice::getNumReferences() {
    return numReferences;
}

static bool fails(bool isAllocation) {
    if (counted == FailingDevice::Allocations && !isAllocation)
        return false;
    long long call = numCalls++;
    return call >= firstFailure && (numFailures == FailingDevice::FOREVER || call < firstFailure+numFailures);
}

template <class Function>
static Function find(Function function, const char* name) {
    static void* library = dlopen("libOpenCL.so.1", RTLD_NOW);
    return reinterpret_cast<Function>(dlsym(library, name));
}

/** Count an object that was made. */
template <class Object>
static Object count(Object object) {
    numReferences += (object != NULL);
    return object;
}

#define FAIL_OR_CALL(name, ...) \
    if (fails(false)) \
        return CL_OUT_OF_RESOURCES; \
    static const auto original = find(&name, #name); \
    return original(__VA_ARGS__);

#define COUNT_REFERENCES(name, type, change) \
cl_int name(type object) { \
    static const auto original = find(&name, #name); \
    numReferences += change; \
    return original(object); \
}

extern "C" {

COUNT_REFERENCES(clRetainMemObject, cl_mem, 1)
COUNT_REFERENCES(clReleaseMemObject, cl_mem, -1)
COUNT_REFERENCES(clRetainKernel, cl_kernel, 1)
COUNT_REFERENCES(clReleaseKernel, cl_kernel, -1)
COUNT_REFERENCES(clRetainProgram, cl_program, 1)
COUNT_REFERENCES(clReleaseProgram, cl_program, -1)
COUNT_REFERENCES(clRetainCommandQueue, cl_command_queue, 1)
COUNT_REFERENCES(clReleaseCommandQueue, cl_command_queue, -1)
COUNT_REFERENCES(clRetainContext, cl_context, 1)
COUNT_REFERENCES(clReleaseContext, cl_context, -1)

cl_kernel clCreateKernel(cl_program program, const char* name, cl_int* error) {
    static const auto original = find(&clCreateKernel, "clCreateKernel");
    return count(original(program, name, error));
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint numStrings, const char** strings, const size_t* lengths, cl_int* error) {
    static const auto original = find(&clCreateProgramWithSource, "clCreateProgramWithSource");
    return count(original(context, numStrings, strings, lengths, error));
}

cl_program clCreateProgramWithBinary(cl_context context, cl_uint numDevices, const cl_device_id* devices, const size_t* lengths,
                                     const unsigned char** binaries, cl_int* status, cl_int* error) {
    static const auto original = find(&clCreateProgramWithBinary, "clCreateProgramWithBinary");
    return count(original(context, numDevices, devices, lengths, binaries, status, error));
}

cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device, cl_command_queue_properties properties, cl_int* error) {
    static const auto original = find(&clCreateCommandQueue, "clCreateCommandQueue");
    return count(original(context, device, properties, error));
}

cl_context clCreateContext(const cl_context_properties* properties, cl_uint numDevices, const cl_device_id* devices,
                           void (CL_CALLBACK* notify)(const char*, const void*, size_t, void*), void* data, cl_int* error) {
    static const auto original = find(&clCreateContext, "clCreateContext");
    return count(original(properties, numDevices, devices, notify, data, error));
}

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t size, void* host, cl_int* error) {
    if (fails(true)) {
        if (error != NULL)
            *error = CL_MEM_OBJECT_ALLOCATION_FAILURE;
        return NULL;
    }
    static const auto original = find(&clCreateBuffer, "clCreateBuffer");
    return count(original(context, flags, size, host, error));
}

void* clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags, size_t offset, size_t size,
                         cl_uint numEvents, const cl_event* events, cl_event* event, cl_int* error) {
    if (fails(false)) {
        if (error != NULL)
            *error = CL_OUT_OF_RESOURCES;
        return NULL;
    }
    static const auto original = find(&clEnqueueMapBuffer, "clEnqueueMapBuffer");
    return original(queue, buffer, blocking, flags, offset, size, numEvents, events, event, error);
}

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t* offset, const size_t* global,
                              const size_t* local, cl_uint numEvents, const cl_event* events, cl_event* event) {
    FAIL_OR_CALL(clEnqueueNDRangeKernel, queue, kernel, dimensions, offset, global, local, numEvents, events, event)
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void* host,
                           cl_uint numEvents, const cl_event* events, cl_event* event) {
    FAIL_OR_CALL(clEnqueueReadBuffer, queue, buffer, blocking, offset, size, host, numEvents, events, event)
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void* host,
                            cl_uint numEvents, const cl_event* events, cl_event* event) {
    FAIL_OR_CALL(clEnqueueWriteBuffer, queue, buffer, blocking, offset, size, host, numEvents, events, event)
}

cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t fromOffset, size_t toOffset, size_t size,
                           cl_uint numEvents, const cl_event* events, cl_event* event) {
    FAIL_OR_CALL(clEnqueueCopyBuffer, queue, from, to, fromOffset, toOffset, size, numEvents, events, event)
}

cl_int clEnqueueMarkerWithWaitList(cl_command_queue queue, cl_uint numEvents, const cl_event* events, cl_event* event) {
    FAIL_OR_CALL(clEnqueueMarkerWithWaitList, queue, numEvents, events, event)
}

cl_int clWaitForEvents(cl_uint numEvents, const cl_event* events) {
    FAIL_OR_CALL(clWaitForEvents, numEvents, events)
}

cl_int clFinish(cl_command_queue queue) {
    FAIL_OR_CALL(clFinish, queue)
}

} // extern "C"
