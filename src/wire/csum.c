#include "wire/csum.h"
