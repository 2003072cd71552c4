import { parseFilesConfig, type FilesConfig } from '../../files/files-config.ts'
import { readConfigSource } from '../config-flags.ts'
import { pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { orHcl } from '../hcl-config.ts'
import { agentFlags, agentSocketPath } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'

/** spiffe-helper's name for it. */
const defaultFile = 'helper.conf'

/** Flags of every command of `files`; each wins over its key in the file. */
export const filesConfigFlags = {
  config: pathFlag('configuration file: spiffe-helper\'s HCL (.conf, .hcl), YAML or JSON', {
    defaultText: `${defaultFile}, if it is there`
  }),
  expandEnv: switchFlag('replace $NAME and ${NAME} in the file from the environment'),
  certDir: pathFlag('folder to write to', { placeholder: 'DIR' }),
  ...agentFlags,
  logLevel: textFlag('DEBUG, INFO, WARN or ERROR', { placeholder: 'LEVEL' }),
  logFormat: textFlag('json or text', { placeholder: 'FORMAT', defaultText: 'json' })
}

/** @throws {SpiffeError} `file_unusable`, `config_invalid`, `usage_invalid`, `endpoint_malformed` */
export async function readFilesConfig (
  flags: FlagValues<typeof filesConfigFlags> & { readonly 'daemon-mode'?: boolean | undefined }, terminal: Terminal
): Promise<FilesConfig & { readonly socketPath: string }> {
  const source = await readConfigSource(flags, terminal, defaultFile, {
    certDir: ['cert_dir'], 'daemon-mode': ['daemon_mode'], logLevel: ['log_level'], logFormat: ['log_format']
  })
  const config = parseFilesConfig(orHcl(source))
  const fromFile = flags.socketPath === undefined && flags.instance === undefined ? config.agentAddress : undefined
  const socketPath = agentSocketPath(fromFile === undefined ? flags : { socketPath: fromFile, instance: undefined }, terminal.environment)
  return { ...config, socketPath }
}
