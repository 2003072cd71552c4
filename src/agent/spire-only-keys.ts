import { notOffered } from '../runtime/config-schema.ts'

const noProfiler = 'there is no profiler; run the agent under Node\'s --cpu-prof, and leave the key out'
const noWindows = (instead: string) => `Windows is not supported; leave the key out, and set ${instead}`

/** Keys that SPIRE's agent has, and why a configuration with them is refused (spire-surface §6.3). */
export const spireOnlyKeys = {
  profiling_enabled: notOffered(noProfiler, ['false']),
  profiling_port: notOffered(noProfiler),
  profiling_freq: notOffered(noProfiler),
  profiling_names: notOffered(noProfiler, [''])
}

/** The same of `experimental`, of which SPIRE itself checks nothing. */
export const spireOnlyExperiments = {
  feature_flags: notOffered('no feature is behind a flag here; leave the key out', ['']),
  named_pipe_name: notOffered(noWindows('socket_path'), ['']),
  admin_named_pipe_name: notOffered(noWindows('admin_socket_path'), [''])
}
