/** One of a path's parts: itself, any one that is not empty (`{*}`), or whatever follows (`{**}`, the last alone). */
type Part = string | typeof one | typeof rest
const one = Symbol('{*}')
const rest = Symbol('{**}')

/** A path in which `{*}` stands for one segment and a final `{**}` for all that follow, none included, as Envoy's URI templates have it. */
export class PathTemplate {
  readonly text: string
  readonly #parts: readonly Part[]

  private constructor (text: string, parts: readonly Part[]) {
    this.text = text
    this.#parts = parts
  }

  /** @returns `undefined` when it is no such template: braces around anything else, or beside other characters of a segment */
  static parse (text: string): PathTemplate | undefined {
    if (!text.startsWith('/') || text.length > 2_048) return undefined
    const segments = text.slice(1).split('/')
    const parts = segments.map((segment): Part => segment === '{*}' ? one : segment === '{**}' ? rest : segment)
    const plain = parts.every((part, i) => typeof part === 'string' ? /^[^{}*?#\\;]*$/.test(part) : part === one || i === parts.length - 1)
    return plain ? new PathTemplate(text, parts) : undefined
  }

  /** What all paths it matches begin with, up to the first operator. */
  get literal (): string { return this.text.slice(0, this.text.indexOf('{')) }

  matches (path: string): boolean {
    if (!path.startsWith('/')) return false
    let at = 1
    for (const [i, part] of this.#parts.entries()) {
      if (part === rest) return true
      const slash = path.indexOf('/', at)
      const end = slash < 0 ? path.length : slash
      const isLast = i === this.#parts.length - 1
      if (isLast !== (slash < 0)) return false
      if (part === one ? end === at : path.slice(at, end) !== part) return false
      at = end + 1
    }
    return true
  }
}
