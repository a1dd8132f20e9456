/* A library with nvJPEG's functions, argument for argument, that decodes on the processor: it calls
   libjpeg-turbo, and refuses whatever the caller has no right to pass. For the tests. */

#include <dlfcn.h>
#include <stddef.h>

typedef struct { unsigned char *channel[4]; size_t pitch[4]; } Image;
typedef int (*Header)(void *, const unsigned char *, unsigned long, int *, int *, int *, int *);
typedef int (*Planes)(void *, const unsigned char *, unsigned long, unsigned char **, int, int *, int, int);

static int handle, state; /* their addresses are what a caller has to bring along */
static void *turbo, *decoder;
int opened; /* handles and states that are not closed */

int nvjpegCreateEx(int backend, void *device, void *pinned, unsigned flags, void **made)
{
    if (backend != 0 || device || pinned || flags != 4)
        return 2;
    turbo = dlopen("libturbojpeg.so.0", RTLD_NOW);
    if (!turbo)
        return 1;
    decoder = ((void *(*)(void))dlsym(turbo, "tjInitDecompress"))();
    *made = &handle;
    opened++;
    return 0;
}

int nvjpegDestroy(void *given)
{
    if (given != &handle)
        return 2;
    opened--;
    return ((int (*)(void *))dlsym(turbo, "tjDestroy"))(decoder);
}

int nvjpegJpegStateCreate(void *given, void **made)
{
    if (given != &handle)
        return 2;
    *made = &state;
    opened++;
    return 0;
}

int nvjpegJpegStateDestroy(void *given)
{
    opened--;
    return given == &state ? 0 : 2;
}

int nvjpegGetImageInfo(void *given, const unsigned char *data, size_t length, int *parts,
                       int *sampling, int *widths, int *heights)
{
    static const int names[] = {0, 1, 2, 6, 3, 4}; /* TJSAMP_444, 422, 420, GRAY, 440, 411 */
    int kind, colours;
    if (given != &handle)
        return 2;
    if (((Header)dlsym(turbo, "tjDecompressHeader3"))(decoder, data, length, widths, heights, &kind,
                                                      &colours))
        return 3;
    *parts = kind == 3 ? 1 : 3;
    *sampling = names[kind];
    widths[1] = widths[2] = kind == 1 || kind == 2 ? (widths[0] + 1) / 2 : widths[0];
    heights[1] = heights[2] = kind == 2 ? (heights[0] + 1) / 2 : heights[0];
    return 0;
}

int nvjpegDecode(void *given, void *other, const unsigned char *data, size_t length, int format,
                 Image *image, void *stream)
{
    int parts, sampling, widths[4], heights[4], strides[3];
    if (given != &handle || other != &state || format != 0 || stream)
        return 2;
    if (nvjpegGetImageInfo(given, data, length, &parts, &sampling, widths, heights))
        return 3;
    for (int k = 0; k < 3; k++)
        strides[k] = (int)image->pitch[k];
    return ((Planes)dlsym(turbo, "tjDecompressToYUVPlanes"))(
               decoder, data, length, image->channel, widths[0], strides, heights[0], 8192)
               ? 10
               : 0;
}
