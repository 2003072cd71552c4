import { notOffered } from '../runtime/config-schema.ts'

/** Keys that SPIRE's server has, and why a configuration with them is refused (spire-surface §6.2). */
export const spireOnlyKeys = {
  max_attested_node_info_staleness: notOffered('what is known of agents is never older than max_staleness; leave the key out', ['0s', '0']),
  profiling_enabled: notOffered('run the server under Node\'s --cpu-prof instead', ['false']),
  profiling_port: notOffered('there is no profiler'),
  profiling_freq: notOffered('there is no profiler'),
  profiling_names: notOffered('there is no profiler', [''])
}

const followsLog = 'changes are followed as they are committed, and nothing is read anew in intervals; leave the key out'
const noEvents = 'there is no table of events: changes are followed by a log of their own, which is kept short; leave the key out'

/** The same of `experimental`, of which SPIRE itself checks nothing. */
export const spireOnlyExperiments = {
  cache_reload_interval: notOffered(followsLog),
  full_cache_reload_interval: notOffered(followsLog),
  events_based_cache: notOffered(followsLog, ['true', 'false']),
  prune_events_older_than: notOffered(noEvents),
  event_timeout: notOffered(noEvents),
  sql_transaction_timeout: notOffered(noEvents),
  require_pq_kem: notOffered('key exchange is not limited to post-quantum algorithms', ['false']),
  wit_key_type: notOffered('WIT-SVIDs are not issued'),
  wit_issuer: notOffered('WIT-SVIDs are not issued'),
  feature_flags: notOffered('no feature is behind a flag here', ['']),
  named_pipe_name: notOffered('Windows is not supported', [''])
}
