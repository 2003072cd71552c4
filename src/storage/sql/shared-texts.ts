const mostRemembered = 50_000

/**
 * Gives equal texts as one string, as long as they do not come too far apart: of a million entries read from the database many name the
 * same parent, and each would be a string of its own.
 */
export class SharedTexts {
  #newer = new Map<string, string>()
  #older: ReadonlyMap<string, string> = new Map()

  of (text: string): string {
    const known = this.#newer.get(text)
    if (known !== undefined) return known
    const shared = this.#older.get(text) ?? text
    this.#newer.set(text, shared)
    if (this.#newer.size > mostRemembered) {
      this.#older = this.#newer
      this.#newer = new Map()
    }
    return shared
  }
}
