import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Test } from '../policy/rule.ts'
import { asJson } from '../rbac/as-json.ts'
import { compileRbac, type CompiledRbac } from '../rbac/compile-rbac.ts'

/** What a folder of filters holds, in `index.json`. */
export interface RbacIndex {
  readonly revision: string
  readonly workloads: ReadonlyArray<{ readonly id: SpiffeId, readonly file: string, readonly external: readonly string[] }>
}

/**
 * Writes each workload's share of the policies as filters for a hand-written configuration of Envoy: one file for each, by trust domain and
 * path, with the filters for chains of HTTP and of bytes. Each file is whole at any time; those of workloads that are no longer named go.
 * @param more workloads besides those that rules name by their whole ID
 * @throws {SpiffeError} `file_unusable`
 */
export async function writeRbac (folder: string, set: PolicySet, more: readonly SpiffeId[], now: Date): Promise<RbacIndex> {
  try {
    const before = filesOf(folder)
    const workloads: Array<RbacIndex['workloads'][number]> = []
    for (const id of [...new Set([...namedWorkloads(set), ...more])].toSorted()) {
      const file = fileOf(id)
      const [http, network] = (['http', 'network'] as const).map(kind => compileRbac(set, id, { kind, now }))
      await write(join(folder, file), { id, revision: set.revision, http: shown(http), network: shown(network) })
      workloads.push({ id, file, external: [...new Set([http, network].flatMap(compiled => compiled?.external ?? []))] })
    }
    const index: RbacIndex = { revision: set.revision, workloads }
    await write(join(folder, 'index.json'), index)
    const kept = new Set(workloads.map(({ file }) => file))
    for (const file of before) if (!kept.has(file)) rmSync(join(folder, file), { force: true })
    return index
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('file_unusable', `filters cannot be written to ${folder}: ${(error as Error).message}`, { cause: error })
  }
}

/** With rules that Envoy cannot be told the filters refuse everything, and who reads the file learns which rules these are. */
function shown (compiled: CompiledRbac | undefined): object {
  const { filters = [], external = [], reasons = [] } = compiled ?? {}
  return {
    filters: filters.map(({ name, typedConfig }) => ({ name, typed_config: asJson(typedConfig) })),
    external: external.map((rule, i) => ({ rule, reason: reasons[i] }))
  }
}

function namedWorkloads ({ rules }: PolicySet): SpiffeId[] {
  return rules.flatMap(({ target, to = [] }) => [...target, ...to.flat()].flatMap(exactDestinations))
}

function exactDestinations ({ fact, any = [] }: Test): SpiffeId[] {
  return fact.name !== 'destination.id' ? [] : any.flatMap(match => match.kind === 'exact' ? [match.value as SpiffeId] : [])
}

/** What an earlier run left: nothing else is ever removed, and nothing outside of the folder. */
function filesOf (folder: string): string[] {
  try {
    const { workloads } = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as RbacIndex
    return workloads.map(({ id }) => fileOf(parseSpiffeId(id)))
  } catch {
    return []
  }
}

/** The segments of a SPIFFE ID are names of files as they are (SPIFFE-ID §2.2). */
function fileOf (id: SpiffeId): string { return `${id.slice('spiffe://'.length)}.json` }

/** An Envoy of another user reads it. */
async function write (path: string, value: object): Promise<void> {
  mkdirSync(dirname(path), { recursive: true })
  await writeFileAtomically(path, `${JSON.stringify(value, undefined, 2)}\n`, { mode: 0o644 })
}
