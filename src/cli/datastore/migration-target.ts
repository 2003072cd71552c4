import type { DatabaseKeysConfig } from '../../keys/database/open-key-wrapping.ts'
import { parseServerConfig } from '../../server/server-config.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { readConfigSource } from '../config-flags.ts'
import { usage } from '../parse-flags.ts'
import type { Terminal } from '../terminal.ts'

/** Where a database moves, and who keeps private keys there. */
export interface MigrationTarget {
  readonly url: string
  /** By which keys of the key manager `disk` are wrapped there; `undefined`: they stay where they are. */
  readonly keys: DatabaseKeysConfig | undefined
  /** Of the server there, where its configuration is known. */
  readonly dataDir: string | undefined
  readonly trustDomain: TrustDomain | undefined
  /** What the operator does with it, for people. */
  readonly next: string
}

export interface TargetFlags {
  readonly to: string | undefined
  readonly toConfig: string | undefined
  readonly keyEncryptionKeyFile: string | undefined
  readonly expandEnv: boolean
}

/** @throws {SpiffeError} `usage_invalid`, `file_unusable`, `config_invalid` */
export async function chooseTarget (flags: TargetFlags, terminal: Terminal): Promise<MigrationTarget> {
  const { to, toConfig, keyEncryptionKeyFile: file, expandEnv } = flags
  if (toConfig === undefined) {
    if (to === undefined) throw usage('-to is required, the address of the database to move into, or -toConfig')
    return {
      url: to, keys: file === undefined ? undefined : { key_encryption_key_file: file }, dataDir: undefined, trustDomain: undefined,
      next: 'set datastore_url to the new address, and start the server'
    }
  }
  if (to !== undefined || file !== undefined) throw usage('-toConfig stands in place of -to and -keyEncryptionKeyFile')
  const config = parseServerConfig(await readConfigSource({ config: toConfig, expandEnv }, terminal, toConfig, {}))
  const { datastoreUrl: url, dataDir, trustDomain, plugins: { KeyManager: [manager] } } = config
  if (manager?.name !== 'database' && manager?.name !== 'disk') {
    throw usage(`the key manager of ${toConfig} is "${manager?.name}", into which no keys can be taken along: give -to, ` +
      'and have its servers make authorities of their own')
  }
  const keys = manager.name === 'database' ? manager.config as DatabaseKeysConfig : undefined
  return { url, keys, dataDir, trustDomain, next: `start the servers with ${toConfig}` }
}
