#include "wire/vnet.h"
