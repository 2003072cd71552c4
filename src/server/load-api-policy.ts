import { readFile } from 'node:fs/promises'
import { builtInPolicy } from '../authz/apipolicy/evaluator.ts'
import { openSpirePolicy, type OpenedPolicy, type PolicyFile } from '../authz/apipolicy/open-policy.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { ServerConfig } from './server-config.ts'

const maxBytes = 1_048_576

/**
 * The policy that decides who may call which method: the built-in one, or that of the configuration's files.
 * @throws {SpiffeError} `file_unusable`, `policy_malformed`, `policy_too_open`, `policy_unsupported`
 */
export async function loadApiPolicy ({ apiPolicy }: Pick<ServerConfig, 'apiPolicy'>): Promise<OpenedPolicy> {
  if (apiPolicy === undefined) return { evaluator: builtInPolicy, warnings: [] }
  const { regoPath, dataPath } = apiPolicy
  return openSpirePolicy({ rego: await read(regoPath), data: dataPath === undefined ? undefined : await read(dataPath) })
}

async function read (name: string): Promise<PolicyFile> {
  let bytes
  try {
    bytes = await readFile(name)
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${name}: ${(error as Error).message}`, { cause: error })
  }
  if (bytes.length > maxBytes) throw new SpiffeError('file_unusable', `${name} is larger than ${maxBytes} bytes`)
  return { name, text: bytes.toString() }
}
