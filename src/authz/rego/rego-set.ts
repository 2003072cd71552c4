import { SpiffeError } from '../../spiffe/errors.ts'
import { documentAt } from '../document-path.ts'
import type { Clock } from '../../runtime/clock.ts'
import { mergeData } from './bundle-data.ts'
import { rootsOverlap } from './bundle-roots.ts'
import { EvaluationPool, type EvaluationLimits } from './evaluation-pool.ts'
import type { RegoBundle } from './rego-bundle.ts'
import { printRegoValue } from './rego-value.ts'
import type { LoadedModule } from './thread-messages.ts'

/** Path → which module, and which of its entrypoints. */
type Targets = ReadonlyMap<string, { readonly module: number, readonly entrypoint: number }>

export interface EvaluationOptions { readonly time: Date, readonly signal?: AbortSignal | undefined }

/** Of the input document, as JSON text. */
const maxInputLength = 1024 * 1024

/** Bundles that stand side by side, at one revision each: whoever evaluates twice in one set is answered by the same policies and data. */
export class RegoSet implements AsyncDisposable {
  /** Of each bundle, by name. */
  readonly revisions: ReadonlyMap<string, string>
  /** Paths that can be asked for, such as `envoy/authz/allow`, sorted. */
  readonly entrypoints: readonly string[]
  readonly bundles: ReadonlyMap<string, RegoBundle>
  readonly #pool: EvaluationPool
  readonly #targets: Targets

  private constructor (bundles: ReadonlyMap<string, RegoBundle>, pool: EvaluationPool, targets: Targets) {
    this.bundles = bundles
    this.revisions = new Map([...bundles].map(([name, { revision }]) => [name, revision]))
    this.entrypoints = [...targets.keys()].toSorted()
    this.#pool = pool
    this.#targets = targets
  }

  /** @throws {SpiffeError} `rego_bundle_invalid`: roots overlap, or a module cannot be used */
  static async open (bundles: ReadonlyMap<string, RegoBundle>, limits: EvaluationLimits, clock: Clock,
    signal: AbortSignal): Promise<RegoSet> {
    checkDisjoint(bundles)
    const data = printRegoValue(mergeData([...bundles].map(([name, { data }]) => ({ name, data }))))
    const parts = [...bundles].flatMap(([name, { modules }]) => modules.map(part => ({ name: `${name}/${part.path}`, ...part })))
    const loaded = parts.map(({ name, module }): LoadedModule => ({ name, module, data }))
    const pool = await EvaluationPool.open(loaded, limits, clock, signal)
    const targets = new Map(parts.flatMap(({ name, entrypoints }, module) => entrypoints.map(path => {
      const entrypoint = pool.entrypoints[module]?.get(path)
      return [path, entrypoint === undefined ? { missing: name } : { module, entrypoint }] as const
    })))
    for (const [path, target] of targets) {
      if (!('missing' in target)) continue
      await pool[Symbol.asyncDispose]()
      throw new SpiffeError('rego_bundle_invalid', `${target.missing} does not answer ${path}, which its manifest says`)
    }
    return new RegoSet(bundles, pool, targets as Targets)
  }

  /**
   * @param path an entrypoint, without `data`
   * @param input anything that JSON can say; `undefined`: no input document
   * @param options.time what `time.now_ns` says
   * @param options.signal when it aborts nobody waits any more: what has not begun does not begin
   * @returns the document; its `result` is `undefined` where Rego has none. Integers beyond 2^53 lose their tail.
   * @throws {SpiffeError} `rego_entrypoint_unknown`, `rego_timeout`, `rego_evaluation_failed`, `server_overloaded`, or the signal's reason;
   * nothing is decided then
   */
  async evaluate (path: string, input: unknown, { time, signal }: EvaluationOptions): Promise<{ readonly result: unknown }> {
    const target = this.#targets.get(path)
    if (target === undefined) throw new SpiffeError('rego_entrypoint_unknown', `no bundle answers ${JSON.stringify(path)}`)
    const text = JSON.stringify(input) as string | undefined
    if (text !== undefined && text.length > maxInputLength) {
      throw new SpiffeError('rego_evaluation_failed', `the input is longer than ${maxInputLength} characters`)
    }
    const results = JSON.parse(await this.#pool.evaluate({ ...target, input: text,
      timeNs: BigInt(time.getTime()) * 1_000_000n }, signal)) as unknown
    if (!Array.isArray(results) || results.length > 1) {
      throw new SpiffeError('rego_evaluation_failed', 'the module\'s answer is no result set')
    }
    return { result: (results[0] as { readonly result?: unknown } | undefined)?.result }
  }

  /**
   * What is at a path of the data document: an entrypoint's, or a part of one's. @throws as `evaluate`
   * @returns `undefined` where no entrypoint leads there
   */
  async document (
    path: readonly string[], input: unknown, options: EvaluationOptions
  ): Promise<{ readonly result: unknown } | undefined> {
    for (let length = path.length; length > 0; length--) {
      const entrypoint = path.slice(0, length).join('/')
      if (!this.#targets.has(entrypoint)) continue
      const { result } = await this.evaluate(entrypoint, input, options)
      return { result: documentAt(result, path.slice(length)) }
    }
    return undefined
  }

  /** What has been asked is answered first. */
  async [Symbol.asyncDispose] (): Promise<void> { await this.#pool[Symbol.asyncDispose]() }
}

function checkDisjoint (bundles: ReadonlyMap<string, RegoBundle>): void {
  const owned = [...bundles].flatMap(([name, { roots }]) => roots.map(root => ({ name, root })))
  for (const [index, { name, root }] of owned.entries()) {
    const other = owned.slice(index + 1).find(other => other.name !== name && rootsOverlap(root, other.root))
    if (other === undefined) continue
    const rule = `bundles ${name} and ${other.name} both own ${JSON.stringify(root.length > other.root.length ? root : other.root)}`
    throw new SpiffeError('rego_bundle_invalid', `${rule}: give each its roots in .manifest`)
  }
}
