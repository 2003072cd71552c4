import { EnvelopeWrapping } from '../../keys/database/envelope-wrapping.ts'
import { openKeyWrapping, type DatabaseKeysConfig } from '../../keys/database/open-key-wrapping.ts'
import { wrapKeyFile } from '../../keys/database/wrap-key-file.ts'
import { systemClock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { readServerId } from '../../server/replication/server-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { KeyHandover } from '../../storage/backup/copy-datastore.ts'
import { usage } from '../parse-flags.ts'
import type { ChosenDatastore } from './datastore-flags.ts'
import type { MigrationTarget } from './migration-target.ts'

export interface HandoverPlan {
  readonly handover: KeyHandover
  /** What the operator does next about keys; nothing where they stay as they are. */
  readonly next: string | undefined
}

/**
 * How the authorities go on with the database they move to, so that agents know them. Those whose keys are in `keys.json` belong, on
 * PostgreSQL, to the one server that has the file; or their keys move into the database, for all servers.
 * @throws {SpiffeError} `usage_invalid`, `file_unusable`, `key_encryption_key_invalid`, `key_store_corrupt`, `key_service_*`
 */
export async function planHandover (
  { url, keys, dataDir, trustDomain }: ChosenDatastore, target: MigrationTarget, log: Logger
): Promise<HandoverPlan> {
  if (target.keys !== undefined && keys?.kind === 'file') {
    const wrappedKeys = await wrapAll(keys.path, target.keys, trustDomain ?? target.trustDomain, log)
    const { key_encryption_key_file: file } = target.keys
    const set = target.dataDir === undefined ? `set the key manager to "database" with key_encryption_key_file: ${file}; ` : ''
    return { handover: { wrappedKeys, owner: { from: await ownerOn(url, dataDir), to: '' } }, next: `${set}in the end delete ${keys.path}` }
  }
  // Keys that are in the database already come along as they are.
  if (target.keys !== undefined && !(keys?.kind === 'database' && target.dataDir !== undefined)) {
    throw usage('keys that move into the database are those of the key manager "disk", which -config names')
  }
  if (keys?.kind === 'file') {
    const [from, to] = [await ownerOn(url, dataDir), await ownerOn(target.url, target.dataDir ?? dataDir)]
    return { handover: { owner: { from, to } }, next: `leave ${keys.path} and the data folder where they are` }
  }
  return {
    handover: {},
    next: keys === undefined
      ? 'with the key manager "disk", name the server\'s -config instead: otherwise its authorities are not handed over'
      : undefined
  }
}

/** Whatever wraps them has to unwrap what it wrapped before anything moves. */
async function wrapAll (
  path: string, config: DatabaseKeysConfig, trustDomain: TrustDomain | undefined, log: Logger
): Promise<ReadonlyMap<string, Uint8Array>> {
  if (trustDomain === undefined) throw usage('-config or -trustDomain has to say which trust domain it is')
  await using wrapping = await openKeyWrapping(config, { trustDomain, clock: systemClock, log })
  if (wrapping instanceof EnvelopeWrapping) await wrapping.check()
  return await wrapKeyFile(path, wrapping, log)
}

/** Whose the authorities of a disk key manager are: on PostgreSQL its server's. */
async function ownerOn (url: string, dataDir: string | undefined): Promise<string> {
  return /^postgres(ql)?:/i.test(url) && dataDir !== undefined ? await readServerId(dataDir) : ''
}
