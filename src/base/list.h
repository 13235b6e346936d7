/*
 * base/list.h: intrusive doubly linked circular lists.
 *
 * A list is a struct list_node that points at itself when empty; an element embeds a node. A node that is in no list
 * points at itself too, so list_linked() answers "is it queued?" and list_del() is safe to repeat.
 */
#ifndef TAUT_BASE_LIST_H
#define TAUT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *prev;
    struct list_node *next;
};

#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#define list_for_each(node, list) for (struct list_node *node = (list)->next; node != (list); node = node->next)

/* The current node may be removed in the body. */
#define list_for_each_safe(node, list)                                                                        \
    for (struct list_node *node = (list)->next, *node##_next = node->next; node != (list);                   \
         node = node##_next, node##_next = node->next)

static inline void list_init(struct list_node *list)
{
    list->prev = list;
    list->next = list;
}

static inline bool list_empty(const struct list_node *list)
{
    return list->next == list;
}

static inline bool list_linked(const struct list_node *node)
{
    return node->next != node;
}

static inline void list_insert(struct list_node *node, struct list_node *prev, struct list_node *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

static inline void list_add_tail(struct list_node *list, struct list_node *node)
{
    list_insert(node, list->prev, list);
}

static inline void list_add_head(struct list_node *list, struct list_node *node)
{
    list_insert(node, list, list->next);
}

static inline void list_del(struct list_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

static inline struct list_node *list_first(const struct list_node *list)
{
    return list_empty(list) ? NULL : list->next;
}

static inline struct list_node *list_last(const struct list_node *list)
{
    return list_empty(list) ? NULL : list->prev;
}

static inline struct list_node *list_pop(struct list_node *list)
{
    struct list_node *node = list_first(list);

    if (node)
        list_del(node);
    return node;
}

#endif
