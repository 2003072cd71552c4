import { readFile } from 'node:fs/promises'
import { builtInPolicy } from '../authz/apipolicy/evaluator.ts'
import { lintRego } from '../authz/apipolicy/lint-policy.ts'
import { openSpirePolicy, type OpenedPolicy } from '../authz/apipolicy/open-policy.ts'
import { openRegoPolicy } from '../authz/apipolicy/open-rego-policy.ts'
import { entrypoint } from '../authz/apipolicy/rego-evaluator.ts'
import { isStandardRego } from '../authz/apipolicy/standard-rego.ts'
import { buildBundle } from '../authz/rego/opa-build.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { ServerConfig } from './server-config.ts'

const maxBytes = 1_048_576
/** Of a bundle, which has a WebAssembly module in it. */
const maxBundleBytes = 16 * 1_048_576

/**
 * The policy that decides who may call which method: the built-in one, or that of the configuration's files. What evaluates it lives as
 * long as the scope.
 * @throws {SpiffeError} `file_unusable`, `policy_malformed`, `policy_too_open`, `policy_unsupported`, `rego_bundle_invalid`, `rego_timeout`
 */
export async function loadApiPolicy (
  { apiPolicy, trustDomain }: Pick<ServerConfig, 'apiPolicy' | 'trustDomain'>, clock: Clock, scope: AsyncDisposableStack
): Promise<OpenedPolicy> {
  if (apiPolicy === undefined) return { evaluator: builtInPolicy, warnings: [] }
  const { regoPath: name, dataPath, opaPath } = apiPolicy
  const data = dataPath === undefined ? undefined : { name: dataPath, text: (await read(dataPath, maxBytes)).toString() }
  const file = await read(name, maxBundleBytes)
  const open = (bytes: Uint8Array) => openRegoPolicy({ bundle: { name, bytes }, data }, { trustDomain, clock }, scope)
  if (isGzip(file)) return await open(file)
  if (file.length > maxBytes) throw tooLarge(name, maxBytes)
  const text = file.toString()
  if (opaPath === undefined || isStandardRego(text)) return openSpirePolicy({ rego: { name, text }, data })
  lintRego(name, text)
  return await open(await compile(name, opaPath))
}

/** SPIRE's policies were written in Rego of before OPA 1.0 for years. */
async function compile (path: string, opaPath: string): Promise<Uint8Array> {
  const { signal } = new AbortController()
  const build = { opaPath, entrypoints: [entrypoint], isFile: true }
  try {
    return await buildBundle(path, build, signal)
  } catch (error) {
    return await buildBundle(path, { ...build, isOld: true }, signal).catch(() => { throw error })
  }
}

/** RFC 1952 §2.3.1. */
function isGzip (bytes: Buffer): boolean { return bytes[0] === 0x1f && bytes[1] === 0x8b }

async function read (name: string, most: number): Promise<Buffer> {
  let bytes
  try {
    bytes = await readFile(name)
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${name}: ${(error as Error).message}`, { cause: error })
  }
  if (bytes.length > most) throw tooLarge(name, most)
  return bytes
}

function tooLarge (name: string, most: number): SpiffeError {
  return new SpiffeError('file_unusable', `${name} is larger than ${most} bytes`)
}
