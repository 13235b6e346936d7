#include "wire/eth.h"
