#include "wire/gso.h"
