/* What stands between Python and loops that were compiled ahead: reads and checks the arguments,
 * lets other threads run, calls. `entries.py` adds a function for each loop.
 *
 * Uses the part of Python's interface that is the same from 3.10 on, and of NumPy's the public head
 * of an array, which is the same in 1.x and 2.x. */

#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

#define MOST 4 /* dimensions of an array */
enum { CONTIGUOUS = 0x1, ALIGNED = 0x100, WRITEABLE = 0x400 };

typedef struct {
    PyObject head;
    void *type;
    char kind, character, order, unused;
    int number;
} Dtype;

typedef struct {
    PyObject head;
    char *data;
    int dimensions;
    intptr_t *shape, *strides;
    PyObject *base;
    Dtype *dtype;
    int flags;
} Ndarray;

/* An array as a loop wants it, and as the error says it. */
typedef struct {
    int number, dimensions, flags;
    const char *said;
} Wanted;

/* An array as a loop takes it. */
typedef struct {
    int64_t items, bytes;
    char *data;
    int64_t shape[MOST], strides[MOST];
} Array;

static PyObject *ndarray, *boolean;

static int take_array(PyObject *given, const Wanted *wanted, const char *name, Array *to) {
    PyObject *type = (PyObject *)Py_TYPE(given);
    if (type != ndarray && !PyType_IsSubtype((PyTypeObject *)type, (PyTypeObject *)ndarray)) {
        PyErr_Format(PyExc_TypeError, "%s is %R, expected %s", name, type, wanted->said);
        return -1;
    }
    const Ndarray *array = (const Ndarray *)given;
    if (array->dtype->number != wanted->number || array->dtype->order == '>'
        || array->dimensions != wanted->dimensions
        || (array->flags & wanted->flags) != wanted->flags) {
        PyErr_Format(PyExc_TypeError, "%s is an array of %d dimensions of %R, flags %d, expected %s",
                     name, array->dimensions, (PyObject *)array->dtype, array->flags, wanted->said);
        return -1;
    }
    to->items = 1;
    for (int i = 0; i < wanted->dimensions; i++) {
        to->shape[i] = array->shape[i];
        to->strides[i] = array->strides[i];
        to->items *= array->shape[i];
    }
    to->data = array->data;
    return 0;
}

static int take_tuple(PyObject *given, Py_ssize_t size, const char *name, PyObject **to) {
    if (!PyTuple_Check(given) || PyTuple_Size(given) != size) {
        PyErr_Format(PyExc_TypeError, "%s is no tuple of %zd", name, size);
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++)
        to[i] = PyTuple_GetItem(given, i);
    return 0;
}

static int take_int(PyObject *given, const char *name, int64_t *to) {
    *to = PyLong_AsLongLong(given);
    if (*to == -1 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%s is no whole number of 64 bits", name);
        return -1;
    }
    return 0;
}

static int take_float(PyObject *given, const char *name, double *to) {
    *to = PyFloat_AsDouble(given);
    if (*to == -1.0 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%s is no number", name);
        return -1;
    }
    return 0;
}

static int take_bool(PyObject *given, const char *name, int8_t *to) {
    if (given == Py_True || given == Py_False) {
        *to = given == Py_True;
        return 0;
    }
    if ((PyObject *)Py_TYPE(given) != boolean) {
        PyErr_Format(PyExc_TypeError, "%s is neither true nor false", name);
        return -1;
    }
    *to = (int8_t)PyObject_IsTrue(given);
    return 0;
}

static int count(Py_ssize_t given, Py_ssize_t wanted, const char *name) {
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, given);
    return -1;
}

static PyObject *failed(const char *name) {
    PyErr_Format(PyExc_ValueError, "%s: its arrays do not fit one another, or no memory is left", name);
    return NULL;
}

/* What Numba's loops ask their runtime for: memory that counts who holds it, and views. */

typedef struct {
    size_t holders;
    void *destroy, *destroy_argument;
    void *data;
    size_t size;
    void *allocator;
} Memory;

void *NRT_MemInfo_alloc_aligned(size_t size, uint32_t align) {
    if (size > SIZE_MAX - sizeof(Memory) - align)
        return NULL;
    Memory *made = malloc(sizeof(Memory) + align + size);
    if (made == NULL)
        return NULL;
    uintptr_t start = (uintptr_t)(made + 1);
    if (align)
        start = (start + align - 1) / align * align;
    *made = (Memory){.holders = 1, .data = (void *)start, .size = size};
    return made;
}

void NRT_MemInfo_call_dtor(Memory *memory) { free(memory); }

int numba_attempt_nocopy_reshape(intptr_t dimensions, const intptr_t *shape,
                                 const intptr_t *strides, intptr_t to_dimensions,
                                 const intptr_t *to_shape, intptr_t *to_strides, intptr_t bytes,
                                 int columns_first) {
    intptr_t items = 1, to_items = 1;
    for (intptr_t i = dimensions - 1; i >= 0; i--) {
        if (shape[i] != 1 && strides[i] != items * bytes)
            return 0; /* rows that are not one after the other: none of ours */
        items *= shape[i];
    }
    for (intptr_t i = to_dimensions - 1; i >= 0; i--) {
        to_strides[i] = to_items * bytes;
        to_items *= to_shape[i];
    }
    return items == to_items && !columns_first;
}

static struct PyModuleDef definition;

PyMODINIT_FUNC PyInit_loops(void) {
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (numpy == NULL)
        return NULL;
    ndarray = PyObject_GetAttrString(numpy, "ndarray");
    boolean = PyObject_GetAttrString(numpy, "bool_");
    Py_DecRef(numpy);
    return ndarray && boolean ? PyModule_Create(&definition) : NULL;
}
