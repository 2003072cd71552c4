/** Who waits, by where it comes from: one of each place in turn, of one place who came first. */
export class Turns<Item> {
  /** In the order in which they are next. */
  readonly #places = new Map<string, Set<Item>>()
  #size = 0

  get size (): number { return this.#size }

  /** All that wait, place by place. */
  * [Symbol.iterator] (): Generator<Item, void, undefined> { for (const items of this.#places.values()) yield * items }

  add (place: string, item: Item): void {
    const items = this.#places.get(place) ?? new Set()
    this.#places.set(place, items.add(item))
    this.#size++
  }

  /** Harmless for one that does not wait. */
  remove (place: string, item: Item): void {
    const items = this.#places.get(place)
    if (items?.delete(item) !== true) return
    this.#size--
    if (items.size === 0) this.#places.delete(place)
  }

  /** Takes whoever is next among the places that may have a turn; its place is the last one then. */
  take (mayHave: (place: string) => boolean): Item | undefined {
    for (const [place, items] of this.#places) {
      if (!mayHave(place)) continue
      const [first] = items
      this.#places.delete(place)
      this.#places.set(place, items)
      this.remove(place, first as Item)
      return first
    }
    return undefined
  }
}
