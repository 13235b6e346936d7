#include "wire/mld.h"
