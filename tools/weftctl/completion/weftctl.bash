# SPDX-License-Identifier: Apache-2.0
# made by `weftctl completion bash`
_weftctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	local i word command= instance= words= files= only= skip=
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $skip ]]; then
			[[ $skip == --instance ]] && instance="--instance $word"
			skip=
			continue
		fi
		case $word in
		-o|--instance|--output|--wait|--to|--netns|--ip|--service-account|--label|--annotation|--uid|--of|=) skip=$word ;;
		-*) ;;
		*) [[ $command == *' '* ]] || command=${command:+$command }$word ;;
		esac
	done
	case $command in
	'') words="status pods services routes gateways connections tunnels certs issue policy explain traffic pod splice reasons completion help version " ;;
	pod) words="add del " ;;
	splice) words="on off " ;;
	'status'|'status '*) words="--wait " ;;
	'pods'|'pods '*) words="$(weftctl $instance names --of pods 2>/dev/null) " ;;
	'services'|'services '*) words="$(weftctl $instance names --of services 2>/dev/null) " ;;
	'routes'|'routes '*) words="" ;;
	'gateways'|'gateways '*) words="" ;;
	'connections'|'connections '*) words="$(weftctl $instance names --of pods 2>/dev/null) " ;;
	'tunnels'|'tunnels '*) words="$(weftctl $instance names --of pods 2>/dev/null) " ;;
	'certs'|'certs '*) words="" ;;
	'issue'|'issue '*) words="--to " ;;
	'policy'|'policy '*) words="$(weftctl $instance names --of pods 2>/dev/null) " ;;
	'explain'|'explain '*) words="$(weftctl $instance names --of pods 2>/dev/null) --check " ;;
	'traffic'|'traffic '*) words="" ;;
	'pod add'|'pod add '*) words="--netns --ip --service-account --label --annotation --uid " ;;
	'pod del'|'pod del '*) words="$(weftctl $instance names --of pods 2>/dev/null) " ;;
	'splice on'|'splice on '*) words="" ;;
	'splice off'|'splice off '*) words="" ;;
	'reasons'|'reasons '*) words="--markdown " ;;
	'completion'|'completion '*) words="bash zsh fish " ;;
	'help'|'help '*) words="$(weftctl names --of commands) " ;;
	'version'|'version '*) words="" ;;
	esac
	case $prev in
	-o) words="table json"; only=1 ;;
	--instance) words=""; only=1 ;;
	--output) words="table json"; only=1 ;;
	--watch) words=""; only=1 ;;
	--wait) words=""; only=1 ;;
	--to) words="" files=-d; only=1 ;;
	--netns) words="$(ls /run/netns 2>/dev/null)" files=-f; only=1 ;;
	--ip) words=""; only=1 ;;
	--service-account) words=""; only=1 ;;
	--label) words=""; only=1 ;;
	--annotation) words=""; only=1 ;;
	--uid) words=""; only=1 ;;
	esac
	[[ $only || $cur != -* ]] || words+=" --instance --output --watch --help --version "
	COMPREPLY=()
	local IFS=$' \t\n' list=()
	read -r -d '' -a list <<<"$words"
	for word in "${list[@]}"; do
		[[ $word != "$cur"* ]] || COMPREPLY+=("$word")
	done
	[[ $files ]] || return 0
	compopt -o filenames 2>/dev/null # names are quoted
	while IFS= read -r word; do
		COMPREPLY+=("$word")
	done < <(compgen "$files" -- "$cur")
}
complete -F _weftctl weftctl
