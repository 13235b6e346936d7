#include "wire/icmp.h"
