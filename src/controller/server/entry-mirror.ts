import { isOwnId } from '../desired/entry-key.ts'
import type { ServerSide, StoredEntry } from '../desired/diff-entries.ts'

/** What the server has, as far as it was seen: own entries, and the IDs of foreign ones that stand where declared ones should. */
export class EntryMirror implements ServerSide {
  readonly #prefix: string
  #own = new Map<string, readonly StoredEntry[]>()
  #foreign = new Map<string, string>()
  #written = new Set<string>()

  constructor (prefix: string) { this.#prefix = prefix }

  readonly own = (key: string): readonly StoredEntry[] => this.#own.get(key) ?? []
  readonly foreign = (key: string): string | undefined => this.#foreign.get(key)
  /** Of own entries. */
  keys (): Iterable<string> { return this.#own.keys() }
  get size (): number { return this.#own.size }

  /** @param isDeclared of foreign entries only those with such keys are remembered */
  async read (
    listed: AsyncIterable<{ readonly key: string, readonly entry: StoredEntry }>, isDeclared: (key: string) => boolean
  ): Promise<void> {
    const own = new Map<string, readonly StoredEntry[]>()
    const foreign = new Map<string, string>()
    for await (const { key, entry } of listed) {
      if (isOwnId(entry.id, this.#prefix)) own.set(key, this.#sorted(key, [...own.get(key) ?? [], entry]))
      else if (isDeclared(key)) foreign.set(key, entry.id)
    }
    this.#own = own
    this.#foreign = foreign
  }

  /** It was made or changed by this controller. */
  put (key: string, entry: StoredEntry): void {
    this.#written.add(key)
    this.#own.set(key, [...this.own(key).filter(({ id }) => id !== entry.id), entry])
  }

  remove (key: string, id: string): void {
    const left = this.own(key).filter(entry => entry.id !== id)
    if (left.length > 0) this.#own.set(key, left)
    else this.#own.delete(key)
  }

  /** Keys of what was put since the last call. */
  takeWritten (): ReadonlySet<string> {
    const written = this.#written
    this.#written = new Set()
    return written
  }

  putForeign (key: string, id: string): void { this.#foreign.set(key, id) }

  isOwn (id: string): boolean { return isOwnId(id, this.#prefix) }

  /** The one that is kept is the same for everybody. */
  #sorted (key: string, entries: readonly StoredEntry[]): readonly StoredEntry[] {
    const rank = ({ id }: StoredEntry) => (id === this.#prefix + key ? '0' : '1') + id
    return entries.length < 2 ? entries : entries.toSorted((a, b) => rank(a) < rank(b) ? -1 : 1)
  }
}
