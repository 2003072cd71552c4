import type { ConfigSource } from '../../runtime/config-file.ts'
import { parseServerConfig, type ServerConfig } from '../../server/server-config.ts'
import { readConfigSource } from '../config-flags.ts'
import { numberFlag, pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { orSpire } from '../hcl-config.ts'
import type { Terminal } from '../terminal.ts'

export const defaultServerConfig = 'conf/server/server.yaml'
const spireServerConfig = 'conf/server/server.conf'

/** Flags of `server run` and `server validate`; each wins over its key in the file. */
export const serverConfigFlags = {
  config: pathFlag('configuration file: YAML, JSON, or SPIRE\'s HCL (.conf, .hcl)', {
    defaultText: `${defaultServerConfig}, if it is there`
  }),
  expandEnv: switchFlag('replace $NAME and ${NAME} in the file from the environment'),
  trustDomain: textFlag('trust domain of this server', { placeholder: 'NAME' }),
  bindAddress: textFlag('address to listen on for agents', { placeholder: 'HOST' }),
  serverPort: numberFlag('port to listen on for agents', { minimum: 0, placeholder: 'PORT' }),
  socketPath: pathFlag('where to make the admin socket', { placeholder: 'PATH' }),
  dataDir: pathFlag('folder for keys and the embedded database', { placeholder: 'DIR' }),
  logLevel: textFlag('DEBUG, INFO, WARN or ERROR', { placeholder: 'LEVEL' }),
  logFile: pathFlag('append the log to this file instead of standard error'),
  logFormat: textFlag('json or text', { placeholder: 'FORMAT', defaultText: 'json' }),
  logSourceLocation: switchFlag('tell with each line which source file and line logged it', { orUnset: true })
}

/** @throws {SpiffeError} `file_unusable`, `config_invalid` */
export async function readServerConfig (flags: FlagValues<typeof serverConfigFlags>, terminal: Terminal): Promise<ServerConfig> {
  const file = terminal.program === 'assay' ? defaultServerConfig : spireServerConfig
  const source: ConfigSource = await readConfigSource(flags, terminal, file, {
    trustDomain: ['server', 'trust_domain'],
    bindAddress: ['server', 'bind_address'],
    serverPort: ['server', 'bind_port'],
    socketPath: ['server', 'socket_path'],
    dataDir: ['server', 'data_dir'],
    logLevel: ['server', 'log_level'],
    logFile: ['server', 'log_file'],
    logFormat: ['server', 'log_format'],
    logSourceLocation: ['server', 'log_source_location']
  })
  return parseServerConfig(orSpire(source, 'server', terminal))
}
