import { parseAgentConfig, type AgentConfig } from '../../agent/agent-config.ts'
import { readConfigSource } from '../config-flags.ts'
import { numberFlag, pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { orSpire } from '../hcl-config.ts'
import type { Terminal } from '../terminal.ts'

const defaultFile = 'conf/agent/agent.yaml'
const spireFile = 'conf/agent/agent.conf'

/** Flags of `agent run` and `agent validate`; each wins over its key in the file. */
export const agentConfigFlags = {
  config: pathFlag('configuration file: YAML, JSON, or SPIRE\'s HCL (.conf, .hcl)', { defaultText: `${defaultFile}, if it is there` }),
  expandEnv: switchFlag('replace $NAME and ${NAME} in the file from the environment'),
  trustDomain: textFlag('trust domain of this agent', { placeholder: 'NAME' }),
  serverAddress: textFlag('where the server is', { placeholder: 'HOST' }),
  serverPort: numberFlag('the server\'s port', { minimum: 1, placeholder: 'PORT' }),
  trustBundle: pathFlag('the server\'s bundle, to know it by at first contact'),
  trustBundleUrl: textFlag('https URL to fetch that bundle from, by the web\'s certificates', { placeholder: 'URL' }),
  trustBundleFormat: textFlag('pem or spiffe', { placeholder: 'FORMAT' }),
  insecureBootstrap: switchFlag('trust whoever answers at first contact', { orUnset: true }),
  rebootstrapMode: textFlag('never, auto or always: attest as at first contact after the servers\' root was replaced', {
    placeholder: 'MODE', defaultText: 'never'
  }),
  rebootstrapDelay: textFlag('for how long such servers are waited out first', { placeholder: 'DURATION', defaultText: '10m' }),
  joinToken: textFlag('token to join with; visible to other users in the process list: prefer -joinTokenFile', { placeholder: 'TOKEN' }),
  joinTokenFile: pathFlag('file that holds the token to join with'),
  dataDir: pathFlag('folder for this agent\'s key and cache', { placeholder: 'DIR' }),
  socketPath: pathFlag('where to make the socket for workloads and Envoy', { placeholder: 'PATH' }),
  takeOver: switchFlag('take the place of the agent that runs on this socket', { orUnset: true }),
  envoy: switchFlag('run the node\'s Envoy too; mesh.envoy.path, or the one on PATH', { orUnset: true }),
  disableSDSAPI: switchFlag('offer no SDS to Envoy', { orUnset: true }),
  disableWorkloadAPI: switchFlag('offer no Workload API', { orUnset: true }),
  allowUnauthenticatedVerifiers: switchFlag('give the bundle to callers without an identity too', { orUnset: true }),
  logLevel: textFlag('DEBUG, INFO, WARN or ERROR', { placeholder: 'LEVEL' }),
  logFile: pathFlag('append the log to this file instead of standard error'),
  logFormat: textFlag('json or text', { placeholder: 'FORMAT', defaultText: 'json' }),
  logSourceLocation: switchFlag('tell with each line which source file and line logged it', { orUnset: true })
}

/** @throws {SpiffeError} `file_unusable`, `config_invalid` */
export async function readAgentConfig (flags: FlagValues<typeof agentConfigFlags>, terminal: Terminal): Promise<AgentConfig> {
  const file = terminal.program === 'assay' ? defaultFile : spireFile
  const source = await readConfigSource(flags, terminal, file, {
    trustDomain: ['agent', 'trust_domain'],
    serverAddress: ['agent', 'server_address'],
    serverPort: ['agent', 'server_port'],
    trustBundle: ['agent', 'trust_bundle_path'],
    trustBundleUrl: ['agent', 'trust_bundle_url'],
    trustBundleFormat: ['agent', 'trust_bundle_format'],
    insecureBootstrap: ['agent', 'insecure_bootstrap'],
    rebootstrapMode: ['agent', 'rebootstrap_mode'],
    rebootstrapDelay: ['agent', 'rebootstrap_delay'],
    joinToken: ['agent', 'join_token'],
    joinTokenFile: ['agent', 'join_token_file'],
    dataDir: ['agent', 'data_dir'],
    socketPath: ['agent', 'socket_path'],
    takeOver: ['agent', 'take_over'],
    envoy: ['mesh', 'run_envoy'],
    disableSDSAPI: ['agent', 'disable_sds_api'],
    disableWorkloadAPI: ['agent', 'disable_workload_api'],
    allowUnauthenticatedVerifiers: ['agent', 'allow_unauthenticated_verifiers'],
    logLevel: ['agent', 'log_level'],
    logFile: ['agent', 'log_file'],
    logFormat: ['agent', 'log_format'],
    logSourceLocation: ['agent', 'log_source_location']
  })
  return parseAgentConfig(orSpire(source, 'agent', terminal))
}
