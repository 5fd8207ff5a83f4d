/* SPDX-License-Identifier: Apache-2.0 */
/* pins.c: the instance's folder in bpffs. See loader.h. */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader.h"

int pins_folder(const char *path)
{
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

int pins_replace(int fd, const char *dir, const char *name)
{
	char path[WIRE_PATH], fresh[WIRE_PATH];
	int err;

	/* bpffs keeps names with a dot for itself */
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    snprintf(fresh, sizeof(fresh), "%s/new_%s", dir, name) >= (int)sizeof(fresh))
		return -ENAMETOOLONG;
	if (unlink(fresh) && errno != ENOENT)
		return -errno;
	err = bpf_obj_pin(fd, fresh);
	if (err)
		return err;
	if (rename(fresh, path)) {
		err = -errno;
		(void)unlink(fresh);
	}
	return err;
}

int pins_switch_off(int settings)
{
	/* `version` and `splice_off` are the first two words in every version of abi_settings. */
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info), key = 0, value[256] = {0};
	int err = bpf_obj_get_info_by_fd(settings, &info, &size);

	if (err)
		return err;
	if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size < 8 || info.value_size > sizeof(value))
		return -EINVAL;
	err = bpf_map_lookup_elem(settings, &key, value);
	if (err)
		return err;
	value[1] = 1;
	return bpf_map_update_elem(settings, &key, value, BPF_EXIST);
}

static void detach(const char *path)
{
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return;
	/* Links of a cgroup or a netns that is gone say so; the iterator has no detach. The unlink follows anyway. */
	if (bpf_link_detach(fd) && errno != ENOLINK && errno != EOPNOTSUPP)
		log_debug("%s cannot be detached: %s", path, strerror(errno));
	close(fd);
}

int pins_unlink(const char *dir, bool links)
{
	char path[WIRE_PATH];
	const struct dirent *e;
	DIR *d = opendir(dir);
	int err = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (!err && (e = readdir(d))) {
		if (e->d_name[0] == '.' || e->d_type == DT_DIR)
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path))
			err = -ENAMETOOLONG;
		if (!err && links)
			detach(path);
		if (!err && unlink(path) && errno != ENOENT)
			err = -errno;
	}
	closedir(d);
	return err;
}

void pins_drop(const char *dir, const char *name)
{
	char path[WIRE_PATH];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	detach(path);
	if (unlink(path) && errno != ENOENT)
		log_warning("%s cannot be removed: %s", path, strerror(errno));
}

int pins_rest(const char *dir, bool (*stays)(void *ctx, uint32_t number), void *ctx)
{
	const struct dirent *e;
	DIR *d = opendir(dir);

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		long long number;

		if (e->d_name[0] == '.' ||
		    (!text_number(e->d_name, 1, UINT32_MAX, &number) && stays(ctx, (uint32_t)number)))
			continue;
		log_info("link %s/%s of a weftd that was killed is removed", dir, e->d_name);
		pins_drop(dir, e->d_name);
	}
	closedir(d);
	return 0;
}

static int drop(const char *dir, bool links)
{
	int err = pins_unlink(dir, links);

	return !err && rmdir(dir) && errno != ENOENT ? -errno : err;
}

int pins_remove(const char *instance)
{
	/* Links first: no program runs on maps that are half gone, and no socket enters the splice. */
	static const struct {
		const char *name;
		bool links;
	} order[] = {{"/links", true}, {"/netns", true}, {"/progs", false}, {"", false}};
	char dir[WIRE_PATH / 2], path[WIRE_PATH];
	int settings, err = 0;

	(void)snprintf(dir, sizeof(dir), PINS_ROOT "/%s", instance);
	(void)snprintf(path, sizeof(path), "%s/settings", dir);
	settings = bpf_obj_get(path);
	if (settings >= 0) {
		/* Sockets in the splice keep their program until they close: from now on it says TCP. */
		if (pins_switch_off(settings))
			log_warning("splice of instance %s cannot be switched off: its live connections "
				    "stay spliced until they end",
				    instance);
		close(settings);
	}
	for (unsigned i = 0; i < array_size(order) && !err; i++) {
		(void)snprintf(path, sizeof(path), "%s%s", dir, order[i].name);
		err = drop(path, order[i].links);
	}
	if (err) {
		log_error("pins below %s cannot be removed: %s", dir, strerror(-err));
		return err;
	}
	if (rmdir(PINS_ROOT) && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT)
		log_warning(PINS_ROOT " cannot be removed: %s", strerror(errno));
	return 0;
}
