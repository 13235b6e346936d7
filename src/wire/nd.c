#include "wire/nd.h"
